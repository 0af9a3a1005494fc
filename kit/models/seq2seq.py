"""From one sequence to another: an encoder reads, a decoder writes and looks back at what was read.

Shapes: B batch, S places of the source, T places of the translation, E numbers of an embedded
symbol, H hidden units, V symbols.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, ShapeMismatch
from kit.models.checks import check_sizes, describe

PADDING, START, END = 0, 1, 2  # symbols that are no characters, as in `kit.data.number_words`


@dataclass(frozen=True)
class Seq2SeqConfig:
    """What a Seq2Seq is made of."""

    symbols: int = 30  # V: of both languages together
    source: int = 52  # S: where the source ends and the translation begins
    longest: int = 56  # T at which `translate` gives up
    embedding: int = 64  # E
    hidden: int = 128  # H

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.symbols <= END + 1:
            told = "needs at least 4: padding, start, end and a character"
            raise BadValue(f"Seq2SeqConfig.symbols={self.symbols}: {told}.")


class Seq2Seq(nn.Module):
    """Two GRUs and attention: source and translation so far (B, S + T) -> logits (B, T, V).

    M.-T. Luong, H. Pham, C. Manning, "Effective Approaches to Attention-based Neural Machine
    Translation", 2015: attention comes after the decoder's memory, so that in training all places
    are written at once.
    """

    def __init__(self, config: Seq2SeqConfig | None = None):
        super().__init__()
        self.config = config = config or Seq2SeqConfig()
        e, h = config.embedding, config.hidden
        self.embed = nn.Embedding(config.symbols, e)
        self.encoder = nn.GRU(e, h)  # (S, B, E): place by place, the order in which it computes
        self.decoder = nn.GRU(e, h)
        self.mix = nn.Linear(2 * h, h)
        self.head = nn.Linear(h, config.symbols)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, T, V): at each place, of the symbol after the translation up to there."""
        if inputs.ndim != 2 or inputs.shape[1] <= self.config.source:
            raise ShapeMismatch(
                f"given inputs of shape {tuple(inputs.shape)}; needed "
                f"(B, {self.config.source} + T), T at least 1: the source, then the start symbol "
                f"and the translation so far."
            )
        source, so_far = inputs[:, : self.config.source], inputs[:, self.config.source :]
        memories, state = self.read(source)
        logits, _ = self.write(so_far, state, memories, source != PADDING)
        return logits

    def read(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's memories (B, S, H) of a source (B, S), and the last, (1, B, H)."""
        memories = self.encoder(self.embed(source.T))[0].transpose(0, 1)  # (B, S, H)
        last = (source != PADDING).sum(1).sub(1).clamp(min=0)  # (B,): what follows is padding
        place = last[:, None, None].expand(-1, 1, memories.shape[2])  # (B, 1, H)
        return memories, memories.gather(1, place).transpose(0, 1)

    def write(
        self, so_far: Tensor, state: Tensor, memories: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) after each of the symbols (B, T), and the decoder's state (1, B, H).

        `real` (B, S) says which memories are of characters: nobody looks at the others.
        """
        states, state = self.decoder(self.embed(so_far.T), state)
        states = states.transpose(0, 1)  # (B, T, H)
        likeness = states @ memories.transpose(1, 2) * self.config.hidden**-0.5  # (B, T, S)
        # The least number and not −inf: a source of nothing but padding would give NaN.
        likeness = likeness.masked_fill(~real.unsqueeze(1), torch.finfo(likeness.dtype).min)
        seen = likeness.softmax(-1) @ memories  # (B, T, H): what each place looked at
        return self.head(torch.tanh(self.mix(torch.cat([states, seen], -1)))), state

    @torch.no_grad()
    def translate(self, source: Tensor) -> Tensor:
        """The translation (B, longest) of a source (B, S), as a user gets it; padded after its end.

        Greedy: each symbol is the likeliest after those that the model itself has written.
        """
        memories, state = self.read(source)
        symbol = source.new_full((len(source), 1), START)
        written = source.new_full((len(source), self.config.longest), PADDING)
        going = torch.ones_like(symbol, dtype=torch.bool)  # (B, 1): the end is not written yet
        for place in range(self.config.longest):
            logits, state = self.write(symbol, state, memories, source != PADDING)
            symbol = logits.argmax(-1).where(going, PADDING)
            written[:, place : place + 1] = symbol
            going = going & (symbol != END)
            if not going.any():  # here a GPU is waited for, once per symbol
                break
        return written

    def __repr__(self) -> str:
        return describe(self, "embedding", "hidden")
