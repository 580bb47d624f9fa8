"""ART's training loop, with deletion at each step, and a LoRA adapter of the policy as what is trained. Killed, it goes on.

python art_loop.py [--steps 50]
"""

import argparse
import asyncio
import collections

import lora
import policy
from problems import advantages, number, reward, texts
from runtree.compat import art
from runtree.compat.art.local import LocalBackend


class Rollouts:
    """What an inference server is elsewhere: writes with the model's newest adapter. Random numbers follow from step and scenario."""

    def __init__(self):
        self.agent = lora.Agent()
        self.step = 0
        self.attempts = collections.Counter()

    async def rollout(self, model, scenario, step):
        if step != self.step:
            self.agent.load(model.checkpoint().dir())
            self.step = step
            self.attempts.clear()
        self.attempts[scenario] += 1
        completion = self.agent.complete(scenario, number(step, scenario, self.attempts[scenario]))
        conversation = [{"role": "user", "content": scenario}, {"role": "assistant", "content": completion}]
        return art.Trajectory(reward=reward(scenario, completion), messages_and_choices=conversation)


def train(update):
    """What makes the next adapter of a model: runtree saves what it leaves in `update.target`, at the next step."""
    agent = lora.Agent()
    if update.current is not None:
        agent.load(update.current)
    written = [each.messages_and_choices for group in update.groups for each in group]
    worth = [each for group in update.groups for each in advantages([one.reward for one in group])]
    asked, completions = ([each[place]["content"] for each in written] for place in (0, 1))
    loss = agent.train(asked, completions, worth, update.config.learning_rate)
    agent.save(update.target)
    return {"loss": loss}


async def main(training_steps):
    rollout = Rollouts().rollout
    async with LocalBackend(trainer=train) as backend:
        model = art.TrainableModel(name="agent-001", project="checkpoint-deletion-demo", base_model=lora.BASE_MODEL)
        await model.register(backend)
        train_scenarios = texts("scenarios", 0, 2)

        # training loop
        for step in range(await model.get_step(), training_steps):
            train_groups = await art.gather_trajectory_groups(
                (art.TrajectoryGroup(rollout(model, scenario, step) for _ in range(8)) for scenario in train_scenarios),
                pbar_desc=f"gather(train:{step})",
            )
            result = await model.train(train_groups, config=art.TrainConfig(learning_rate=5e-5))
            # clear all but the most recent and best-performing checkpoint on the train/reward metric
            await model.delete_checkpoints(best_checkpoint_metric="train/reward")
            kept = [each.step for each in model.run.checkpoints()]
            print(f"step {result.step}: reward {result.metrics['train/reward']:.4f}, kept {kept}", flush=True)
    return model


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--steps", type=int, default=50)
    policy.make_exact()
    asyncio.run(main(arguments.parse_args().steps))
