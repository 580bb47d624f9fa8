/** Provisional: replaced by `npm run api` from openapi.json. */
export interface components {
  schemas: {
    ErrorBody: {
      /** @description The error. */
      error: components["schemas"]["ErrorDetail"];
    };
    ErrorDetail: {
      /** @description What the caller must do. */
      kind: components["schemas"]["ErrorKind"];
      /** @description What went wrong. */
      message: string;
      /** @description The exact next step. */
      hint?: string | null;
    };
    StoreInfo: {
      /** @description Store id. */
      id: string;
      /** @description Where it is, as a user writes it. */
      location: string;
      /** @description Version of the runtree that serves it. */
      version: string;
      /** @description Whether this server may write (fork, pin, delete). */
      writable: boolean;
    };
    ProjectInfo: {
      /** @description Name. */
      name: string;
      /** @description Number of runs that are not deleted. */
      runs: number;
      /** @description Of them running now. */
      running: number;
      /** @description Newest activity of any run. */
      last_activity?: number | null;
    };
    RunLabel: {
      /** @description RunId. */
      id: string;
      /** @description Display id. */
      display_id: string;
      /** @description Name. */
      name: string;
    };
    MetricValue: {
      /** @description At which step. */
      step: number;
      /** @description The value. */
      value: components["schemas"]["JsonFloat"];
    };
    RunSummary: {
      /** @description RunId. */
      id: string;
      /** @description Display id, `MMP-42`. */
      display_id: string;
      /** @description Number in the project. */
      number: number;
      /** @description Caller's own key. */
      key?: string | null;
      /** @description Name. */
      name: string;
      /** @description Project. */
      project: string;
      /** @description The lineage's name. */
      experiment: string;
      /** @description RunId of the lineage's root. */
      root: string;
      /** @description Status now. */
      status: components["schemas"]["RunStatus"];
      /** @description Why, in words: an exception, a signal. */
      status_reason?: string | null;
      /** @description Birth. */
      created: number;
      /** @description Newest sign of life. */
      last_activity: number;
      /** @description Newest attempt. */
      attempt: number;
      /** @description Declared parent. */
      parent?: components["schemas"]["RunLabel"] | null;
      /** @description Owner of the fork step. */
      owner?: components["schemas"]["RunLabel"] | null;
      /** @description Fork step, inclusive. */
      fork_step?: number | null;
      /** @description The checkpoint of another run it started from, as a REF. */
      base?: string | null;
      /** @description Number of direct forks. */
      children: number;
      /** @description Last effective step. */
      last_step?: number | null;
      /** @description Latest effective value of each metric asked for, system metrics excluded. */
      metrics: { [key: string]: components["schemas"]["MetricValue"] };
      /** @description Effective config: an object. */
      config: unknown;
      /** @description Tags. */
      tags: string[];
      /** @description Checkpoints on the effective timeline. */
      checkpoints: number;
      /** @description First step at which a metric was not finite, with the metric. */
      first_nonfinite?: components["schemas"]["NonFinite"] | null;
      /** @description Whether the run is deleted. */
      deleted: boolean;
    };
    NonFinite: {
      /** @description The metric. */
      metric: string;
      /** @description First effective step with NaN or an infinity. */
      step: number;
      /** @description The newest checkpoint before it. */
      last_good?: number | null;
    };
    RunPage: {
      /** @description The runs. */
      runs: components["schemas"]["RunSummary"][];
      /** @description How many match in all. */
      total: number;
      /** @description Pass it to get the next page. */
      next_cursor?: string | null;
    };
    RunDetail: {
      /** @description What lists show. */
      summary: components["schemas"]["RunSummary"];
      /** @description Notes. */
      notes?: string | null;
      /** @description Launches, oldest first. */
      attempts: components["schemas"]["AttemptInfo"][];
      /** @description Ancestors, root first, this run last, with the steps each contributes. */
      segments: components["schemas"]["SegmentInfo"][];
      /** @description Direct forks. */
      children: components["schemas"]["ChildInfo"][];
      /** @description What differs from the owner's config at the fork; all keys if there is no parent. */
      config_diff: components["schemas"]["ConfigChange"][];
      /** @description Metrics of the effective history, by name. */
      metrics: components["schemas"]["MetricInfo"][];
      /** @description How a resumed curve compares with the ghost it repeats. */
      resume_report?: components["schemas"]["ResumeReport"] | null;
      /** @description Attached files. */
      files: components["schemas"]["FileInfo"][];
      /** @description Points that were dropped, with the reason. */
      lost: components["schemas"]["LostPoints"][];
    };
    AttemptInfo: {
      /** @description Number, from 1. */
      attempt: number;
      /** @description What made it. */
      kind: components["schemas"]["AttemptKind"];
      /** @description What it is built upon, `MMP-42 attempt 1 @500` as fields. */
      base?: components["schemas"]["BaseInfo"] | null;
      /** @description Step of the checkpoint that was resolved for it. */
      checkpoint_step?: number | null;
      /** @description When it was made. */
      created: number;
      /** @description Newest sign of life of any of its writers. */
      last_activity: number;
      /** @description First and last step it logged itself. */
      steps?: components["schemas"]["StepRange"] | null;
      /** @description First step of its own that is not on the run's timeline, if any: its ghost tail starts here. */
      ghost_from?: number | null;
      /** @description Host, command line, commit. */
      launch: { [key: string]: string };
    };
    BaseInfo: {
      /** @description The run. */
      run: components["schemas"]["RunLabel"];
      /** @description Its launch. */
      attempt: number;
      /** @description Inclusive. */
      step: number;
    };
    StepRange: {
      /** @description First. */
      first: number;
      /** @description Last. */
      last: number;
    };
    SegmentInfo: {
      /** @description Whose. */
      run: components["schemas"]["RunLabel"];
      /** @description Which launch. */
      attempt: number;
      /** @description First step, inclusive; null: from the beginning. */
      first?: number | null;
      /** @description Last step, inclusive; null: still growing. */
      last?: number | null;
    };
    ChildInfo: {
      /** @description The fork. */
      run: components["schemas"]["RunLabel"];
      /** @description Where. */
      fork_step: number;
      /** @description Status. */
      status: components["schemas"]["RunStatus"];
    };
    ConfigChange: {
      /** @description Dotted path. */
      key: string;
      /** @description Before; null and `had_before == false` if it was not there. */
      before: unknown;
      /** @description After; null and `has_after == false` if it is gone. */
      after: unknown;
      /** @description Whether the key was there before. */
      had_before: boolean;
      /** @description Whether the key is there now. */
      has_after: boolean;
    };
    MetricInfo: {
      /** @description Name; a series of one rank is `name[rank 3]`. */
      name: string;
      /** @description Whether it is a system metric. */
      system: boolean;
      /** @description Points of the effective history. */
      points: number;
      /** @description Of them not finite. */
      nonfinite: number;
      /** @description First and last effective step. */
      steps: components["schemas"]["StepRange"];
      /** @description Smallest finite value and its first step. */
      min?: components["schemas"]["MetricValue"] | null;
      /** @description Largest finite value and its first step. */
      max?: components["schemas"]["MetricValue"] | null;
      /** @description Latest. */
      last: components["schemas"]["MetricValue"];
      /** @description Whether this run logged it itself. */
      own: boolean;
    };
    ResumeReport: {
      /** @description The launch that resumed. */
      attempt: number;
      /** @description The launch whose ghost tail it repeats. */
      ghost_attempt: number;
      /** @description Steps that both logged. */
      overlapping_steps: number;
      /** @description Steps in a row, from the first repeated one, at which every metric is bit-equal. */
      bit_equal_steps: number;
      /** @description First step at which a metric differs. */
      diverged_at?: number | null;
      /** @description A metric that differs there. */
      metric?: string | null;
      /** @description In words: `bit-equal for 40 steps`, `diverged at 1203`. */
      text: string;
    };
    FileInfo: {
      /** @description Name. */
      name: string;
      /** @description Bytes. */
      bytes: number;
      /** @description When. */
      at: number;
    };
    LostPoints: {
      /** @description Why. */
      reason: string;
      /** @description How many, per metric. */
      points: { [key: string]: number };
      /** @description When. */
      at: number;
    };
    CheckpointInfo: {
      /** @description `ck_…`. */
      id: string;
      /** @description REF that loads it: `MMP-42@500`. */
      reference: string;
      /** @description The run that saved it. */
      run: components["schemas"]["RunLabel"];
      /** @description The launch. */
      attempt: number;
      /** @description The step. */
      step: number;
      /** @description The how-manieth save of that step. */
      k: number;
      /** @description Its own name. */
      name?: string | null;
      /** @description When `save` was called. */
      created: number;
      /** @description What became of it. */
      state: components["schemas"]["CheckpointState"];
      /** @description Whether the run inherits it rather than saved it. */
      inherited: boolean;
      /** @description Whether it lies on the run's effective timeline. */
      effective: boolean;
      /** @description Whether a later save of the same step supersedes it. */
      superseded: boolean;
      /** @description Raw bytes. */
      bytes: number;
      /** @description Bytes of distinct objects it needs in this store; null until counted. */
      stored_bytes?: number | null;
      /** @description Tensors. */
      tensors: number;
      /** @description Metrics given to it, else the effective points at its step. */
      metrics: { [key: string]: components["schemas"]["JsonFloat"] };
      /** @description Tags. */
      tags: string[];
      /** @description Whether a pin keeps it. */
      pinned: boolean;
      /** @description Parts, those that are there first. */
      parts: components["schemas"]["PartInfo"][];
      /** @description Runs that start from it. */
      forks: components["schemas"]["RunLabel"][];
    };
    PartInfo: {
      /** @description Component. */
      component: string;
      /** @description Rank. */
      rank: number;
      /** @description Whether it is here. */
      present: boolean;
      /** @description Raw bytes; 0 if absent. */
      bytes: number;
    };
    TensorInfo: {
      /** @description Dotted name. */
      name: string;
      /** @description Entry it is in. */
      entry: string;
      /** @description Component and rank that wrote it. */
      part: string;
      /** @description Element type. */
      dtype: string;
      /** @description Shape here. */
      shape: number[];
      /** @description Global shape of a shard. */
      global_shape?: number[] | null;
      /** @description Bytes. */
      bytes: number;
    };
    LineageTree: {
      /** @description RunId of the root. */
      root: string;
      /** @description The experiment. */
      experiment: string;
      /** @description Runs, parents before children, then by birth. */
      runs: components["schemas"]["LineageRun"][];
    };
    LineageRun: {
      /** @description The run. */
      summary: components["schemas"]["RunSummary"];
      /** @description Its launches. */
      attempts: components["schemas"]["AttemptInfo"][];
      /** @description Its own checkpoints, pending and deleted ones included. */
      checkpoints: components["schemas"]["CheckpointInfo"][];
      /** @description What its config changes against its parent's. */
      config_diff: components["schemas"]["ConfigChange"][];
    };
    SeriesRequest: {
      /** @description The series. */
      series: components["schemas"]["SeriesSelector"][];
      /** @description The x axis. */
      x: components["schemas"]["XAxis"];
      /** @description Left edge in units of the axis (steps, or microseconds); null: the beginning. */
      from?: number | null;
      /** @description Right edge, inclusive; null: the end. */
      to?: number | null;
      /** @description Pixel columns: the answer has at most this many buckets per series (the nearest sub-block edges decide). */
      pixels: number;
      /** @description Whether ancestors' points are drawn. */
      inherited: boolean;
    };
    SeriesSelector: {
      /** @description RunId or display id. */
      run: string;
      /** @description Metric name. */
      metric: string;
      /** @description A launch whose own points alone are wanted (a ghost tail); null: the effective history. */
      attempt?: number | null;
    };
    SeriesResponse: {
      /** @description One per selector. */
      series: components["schemas"]["SeriesBuckets"][];
    };
    SeriesBuckets: {
      /** @description RunId. */
      run: string;
      /** @description Metric. */
      metric: string;
      /** @description Launch, if one was asked for. */
      attempt?: number | null;
      /** @description Points the buckets stand for. */
      points: number;
      /** @description x of the first point of each bucket. */
      x_first: number[];
      /** @description x of the last point of each bucket. */
      x_last: number[];
      /** @description Finite minimum; NaN if the bucket has no finite point. */
      min: components["schemas"]["JsonFloat"][];
      /** @description Finite maximum. */
      max: components["schemas"]["JsonFloat"][];
      /** @description Mean of finite points. */
      mean: components["schemas"]["JsonFloat"][];
      /** @description First value, finite or not. */
      first: components["schemas"]["JsonFloat"][];
      /** @description Last value, finite or not. */
      last: components["schemas"]["JsonFloat"][];
      /** @description Points. */
      count: number[];
      /** @description Of them not finite. */
      nonfinite: number[];
      /** @description Which segment each bucket belongs to (index into `segments`). */
      segment: number[];
      /** @description The run and launch of each segment, root first. */
      segments: components["schemas"]["SeriesSegment"][];
    };
    SeriesSegment: {
      /** @description RunId. */
      run: string;
      /** @description Launch. */
      attempt: number;
      /** @description Whether it is another run's. */
      inherited: boolean;
      /** @description x where the stretch begins in this series, in units of the axis. */
      x_start: number;
    };
    ConsolePage: {
      /** @description The lines. */
      lines: components["schemas"]["ConsoleLine"][];
      /** @description Pass it to get what comes next. */
      next_cursor?: string | null;
    };
    ConsoleLine: {
      /** @description Launch. */
      attempt: number;
      /** @description `stdout` or `stderr`. */
      stream: string;
      /** @description When. */
      at: number;
      /** @description The text. */
      text: string;
    };
    ForkRequest: {
      /** @description REF of the checkpoint, `MMP-42@500`. */
      reference: string;
      /** @description Name of the new run; null: `<parent>-f<k>`. */
      name?: string | null;
      /** @description Caller's own key, unique in the project. */
      run_id?: string | null;
      /** @description Config keys to change, deep-merged. */
      config?: unknown | null;
      /** @description Tags. */
      tags: string[];
      /** @description Notes. */
      notes?: string | null;
      /** @description Whether the owner's config is the base; default true. */
      inherit_config?: boolean | null;
      /** @description Whether the owner's tags are taken; default false. */
      inherit_tags?: boolean | null;
    };
    DiffReport: {
      /** @description Left side, as a REF. */
      a: string;
      /** @description Right side, as a REF. */
      b: string;
      /** @description Config keys that differ. */
      config: components["schemas"]["ConfigChange"][];
      /** @description Tensors that differ; empty when runs are compared without checkpoints. */
      tensors: components["schemas"]["TensorChange"][];
      /** @description Tensors that are bit-equal. */
      equal_tensors: number;
      /** @description Latest effective metrics of both sides. */
      metrics: { [key: string]: components["schemas"]["MetricPair"] };
    };
    MetricPair: {
      /** @description Left. */
      a?: components["schemas"]["MetricValue"] | null;
      /** @description Right. */
      b?: components["schemas"]["MetricValue"] | null;
    };
    TensorChange: {
      /** @description Dotted name. */
      name: string;
      /** @description What happened to it. */
      change: components["schemas"]["TensorChangeKind"];
      /** @description Element type and shape on the left, `f32[10,3]`. */
      a?: string | null;
      /** @description On the right. */
      b?: string | null;
      /** @description ‖b−a‖₂ / ‖a‖₂ in f64, for numbers of one dtype and shape; null elsewhere. */
      relative_norm?: components["schemas"]["JsonFloat"] | null;
      /** @description Elements that differ; null where not comparable. */
      changed_elements?: number | null;
    };
    CheckpointState: "complete" | "pending" | "abandoned" | "deleted" | "quarantined";
    TensorChangeKind: "added" | "removed" | "changed" | "reshaped";
    XAxis: "step" | "relative" | "wall";
    ErrorKind: "not_found" | "conflict" | "invalid" | "denied" | "unavailable" | "corrupt" | "unsupported" | "lost_data" | "internal";
    RunStatus: "running" | "completed" | "failed" | "stopped" | "lost" | "created";
    AttemptKind: "start" | "fork" | "resume" | "rewind";
    JsonFloat: number | "NaN" | "Infinity" | "-Infinity";
  };
}
