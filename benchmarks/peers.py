"""The training loops of others, each set up as its own documentation teaches.

Each function trains the model on the batches, once through, with the loss and the optimizer that
it is given: `feed` is a list of batches (inputs, targets) that were cut beforehand, or a
`DataLoader`. Whatever would only slow a framework down is off: logs, progress bars, checkpoints,
validation. What it does for safety or for its own record stays on.

A framework is imported when it is first asked for, so that the others can be timed without it.
"""

import os
import tempfile

from torch import nn
from torch.utils.data import DataLoader


def fabric(model, feed, loss, optimizer):
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(model, optimizer)
    if isinstance(feed, DataLoader):
        feed = fabric.setup_dataloaders(feed)
    for inputs, targets in feed:
        optimizer.zero_grad()
        value = loss(model(inputs), targets)
        fabric.backward(value)
        optimizer.step()


def lightning(model, feed, loss, optimizer):
    from lightning.pytorch import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, batch_idx):
            inputs, targets = batch
            return loss(self.model(inputs), targets)

        def configure_optimizers(self):
            return optimizer

    # "barebones" is its own mode for measuring what the Trainer costs.
    Trainer(accelerator="cpu", devices=1, max_epochs=1, barebones=True).fit(Module(), feed)


def accelerate(model, feed, loss, optimizer):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, feed = accelerator.prepare(model, optimizer, feed)
    for inputs, targets in feed:
        optimizer.zero_grad()
        value = loss(model(inputs), targets)
        accelerator.backward(value)
        optimizer.step()


def ignite(model, feed, loss, optimizer):
    from ignite.engine import create_supervised_trainer

    create_supervised_trainer(model, optimizer, loss).run(feed, max_epochs=1)


def skorch(model, feed, loss, optimizer):
    from skorch import NeuralNet

    class Loss(nn.Module):  # it wants a module, for a function could be a class to call
        def forward(self, outputs, targets):
            return loss(outputs, targets)

    net = NeuralNet(
        model,
        criterion=Loss(),
        optimizer=lambda parameters, lr: optimizer,
        iterator_train=lambda dataset, batch_size: feed,
        train_split=None,
        max_epochs=1,
        verbose=0,
    )
    net.fit([0], y=None)  # the data come from the iterator


def keras(model, feed, loss, optimizer):
    """`fit` of Keras around a step written in PyTorch: its guide "Customizing what happens in
    `fit()` with PyTorch". Keras's own AdamW adds ε elsewhere, so it would learn other weights."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from keras import Model

    class Custom(Model):
        def __init__(self):
            super().__init__()
            self.net = model

        def call(self, inputs):
            return self.net(inputs)

        def train_step(self, data):
            inputs, targets = data
            optimizer.zero_grad()
            value = loss(self(inputs), targets)
            value.backward()
            optimizer.step()
            return {"loss": value}

    custom = Custom()
    custom.compile()
    batches = feed if isinstance(feed, DataLoader) else (batch for batch in feed)
    custom.fit(batches, steps_per_epoch=len(feed), epochs=1, verbose=0)


def fastai(model, feed, loss, optimizer):
    from fastai.basics import DataLoaders, Learner, OptimWrapper

    learner = Learner(
        DataLoaders(feed, []),
        model,
        loss_func=loss,
        opt_func=lambda parameters, lr: OptimWrapper(opt=optimizer),
        lr=optimizer.defaults["lr"],
    )
    with learner.no_logging():
        learner.fit(1)


def trainer(model, feed, loss, optimizer):
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class Ours(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            images, targets = inputs
            return loss(model(images), targets)

        def get_train_dataloader(self):
            return feed

    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            folder,
            use_cpu=True,
            max_steps=len(feed),
            lr_scheduler_type="constant",
            max_grad_norm=0,
            logging_strategy="no",
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        bare = nn.Sequential(model)  # of a model with a `config` it would set fields there
        ours = Ours(bare, options, train_dataset=[0], optimizers=(optimizer, None))
        ours.remove_callback(PrinterCallback)
        ours.train()


PEERS = {  # name -> (loop, the distribution that it comes in)
    "Fabric": (fabric, "lightning"),
    "Lightning": (lightning, "lightning"),
    "Accelerate": (accelerate, "accelerate"),
    "Ignite": (ignite, "pytorch-ignite"),
    "skorch": (skorch, "skorch"),
    "Keras 3": (keras, "keras"),
    "fastai": (fastai, "fastai"),
    "HF Trainer": (trainer, "transformers"),
}
