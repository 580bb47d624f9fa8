"""Everything that makes a torch run exact: model, optimizer, scheduler, dataloader, random generators.
python examples/first_week/04_torch_everything.py; and again, for 10 more epochs; needs torch and torchdata"""

import runtree
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

torch.manual_seed(0)
inputs = torch.randn(512, 8)
data = torch.utils.data.TensorDataset(inputs, inputs.sum(1, keepdim=True))

with runtree.init("first-week", "torch", run_id="torch-everything", resume="allow", config={"lr": 0.01}) as run:
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.config["lr"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 320)
    loader = StatefulDataLoader(data, batch_size=32, shuffle=True)
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader, "rng": runtree.rng()}
    state["epoch"] = 0
    run.load(into=state, default=None)  # restored in place, if there is something to restore
    run.guard(optimizer)  # a save copies weights and moments beside the next forward pass; the step waits for that

    for epoch in range(state["epoch"], state["epoch"] + 10):
        for batch, target in loader:
            loss = torch.nn.functional.mse_loss(model(batch), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            run.log({"loss": loss, "lr": scheduler.get_last_lr()[0]})
        state["epoch"] = epoch + 1
        run.save(state)  # returns at once

print(f"attempt {run.attempt}, {run.last_step} steps, loss {run.history('loss').values[-1]:.4f}")
