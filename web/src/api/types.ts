/** Short names for the generated schema. */
import type { components } from './schema';

type S = components['schemas'];

export type StoreInfo = S['StoreInfo'];
export type ProjectInfo = S['ProjectInfo'];
export type RunLabel = S['RunLabel'];
export type RunSummary = S['RunSummary'];
export type RunStatus = S['RunStatus'];
export type RunPage = S['RunPage'];
export type RunDetail = S['RunDetail'];
export type AttemptInfo = S['AttemptInfo'];
export type ConfigChange = S['ConfigChange'];
export type MetricInfo = S['MetricInfo'];
export type MetricValue = S['MetricValue'];
export type CheckpointInfo = S['CheckpointInfo'];
export type TensorInfo = S['TensorInfo'];
export type TensorEncoding = S['TensorEncoding'];
export type TensorStatistics = S['TensorStatistics'];
export type LineageTree = S['LineageTree'];
export type LineageRun = S['LineageRun'];
export type SeriesRequest = S['SeriesRequest'];
export type SeriesSelector = S['SeriesSelector'];
export type SeriesResponse = S['SeriesResponse'];
export type SeriesBuckets = S['SeriesBuckets'];
export type SeriesSegment = S['SeriesSegment'];
export type ConsolePage = S['ConsolePage'];
export type ConsoleLine = S['ConsoleLine'];
export type ForkRequest = S['ForkRequest'];
export type DiffReport = S['DiffReport'];
export type ErrorBody = S['ErrorBody'];
export type XAxis = S['XAxis'];
export type JsonFloat = S['JsonFloat'];
