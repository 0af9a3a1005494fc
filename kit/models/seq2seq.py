"""Sequence to sequence: an encoder reads the source, a decoder generates the translation.

Shapes: B batch, S source positions, T positions of the translation, E numbers of an embedded
symbol, h hidden units, V symbols.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, ShapeMismatch
from kit.models.checks import check_sizes, describe

PADDING, START, END = 0, 1, 2  # symbols that are not characters, as in `kit.data.number_words`


@dataclass(frozen=True)
class Seq2SeqConfig:
    """The sizes of a Seq2Seq."""

    symbols: int = 30  # V: of both languages together
    source: int = 52  # S: where the source ends and the translation begins
    longest: int = 56  # T at which `translate` stops, even without an end symbol
    embedding: int = 64  # E
    hidden: int = 128  # h

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.symbols <= END + 1:
            needed = "needs at least 4: padding, start, end and one character"
            raise BadValue(f"Seq2SeqConfig.symbols={self.symbols}: {needed}.")


class Seq2Seq(nn.Module):
    """Two GRUs and attention: source and translation so far (B, S + T) -> logits (B, T, V).

    M.-T. Luong, H. Pham, C. Manning, "Effective Approaches to Attention-based Neural Machine
    Translation", 2015: attention comes after the decoder's GRU, so that training can compute all
    positions of the translation at once.

    >>> Seq2Seq()(torch.ones(5, 52 + 3, dtype=torch.int64)).shape
    torch.Size([5, 3, 30])
    """

    def __init__(self, config: Seq2SeqConfig | None = None):
        super().__init__()
        self.config = config = config or Seq2SeqConfig()
        e, h = config.embedding, config.hidden
        self.embed = nn.Embedding(config.symbols, e)  # one table for both languages
        self.encoder = nn.GRU(e, h)  # takes (S, B, E), position first: the order it computes in
        self.decoder = nn.GRU(e, h)
        self.combine = nn.Linear(2 * h, h)  # of a decoder state and what attention read for it
        self.head = nn.Linear(h, config.symbols)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, T, V): at each position, of the symbol after the translation up to there.

        This is teacher forcing: the decoder reads the right translation so far, not its own.
        """
        if inputs.ndim != 2 or inputs.shape[1] <= self.config.source:
            raise ShapeMismatch(
                f"given inputs of shape {tuple(inputs.shape)}; needed "
                f"(B, {self.config.source} + T), T at least 1: the source, then the start symbol "
                f"and the translation so far."
            )
        source, so_far = inputs[:, : self.config.source], inputs[:, self.config.source :]
        memory, state = self.encode(source)
        logits, _ = self.decode(so_far, state, memory, source != PADDING)
        return logits

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's state at each position (B, S, h) of a source (B, S), and the last one."""
        memory = self.encoder(self.embed(source.T))[0].transpose(0, 1)  # (B, S, h)
        # The state after the last real character; what follows is padding.
        last = (source != PADDING).sum(1).sub(1).clamp(min=0)  # (B,)
        index = last[:, None, None].expand(-1, 1, memory.shape[2])  # (B, 1, h)
        return memory, memory.gather(1, index).transpose(0, 1)  # (B, S, h), (1, B, h)

    def decode(
        self, so_far: Tensor, state: Tensor, memory: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) after each of the symbols (B, T), and the decoder's state (1, B, h).

        `real` (B, S) is False where the source is padding, which nothing may attend to.
        """
        states, state = self.decoder(self.embed(so_far.T), state)
        states = states.transpose(0, 1)  # (B, T, h): the queries; `memory` is keys and values
        scores = states @ memory.transpose(1, 2) * self.config.hidden**-0.5  # (B, T, S)
        # The smallest number, not −inf: for a source of only padding, softmax would give NaN.
        scores = scores.masked_fill(~real.unsqueeze(1), torch.finfo(scores.dtype).min)
        context = scores.softmax(-1) @ memory  # (B, T, h): what each position read
        return self.head(torch.tanh(self.combine(torch.cat([states, context], -1)))), state

    @torch.no_grad()
    def translate(self, source: Tensor) -> Tensor:
        """The translation (B, longest) of a source (B, S), with padding after its end.

        Greedy decoding: each symbol is the most likely one after those that the model itself has
        generated. The source is encoded once; each step costs one symbol of the decoder.
        """
        memory, state = self.encode(source)
        symbol = source.new_full((len(source), 1), START)
        translation = source.new_full((len(source), self.config.longest), PADDING)
        unfinished = torch.ones_like(symbol, dtype=torch.bool)  # (B, 1): no end symbol yet
        for position in range(self.config.longest):
            logits, state = self.decode(symbol, state, memory, source != PADDING)
            symbol = logits.argmax(-1).where(unfinished, PADDING)
            translation[:, position : position + 1] = symbol
            unfinished = unfinished & (symbol != END)
            if not unfinished.any():  # this line waits for a GPU, once per symbol
                break
        return translation

    def __repr__(self) -> str:
        return describe(self, "embedding", "hidden")
