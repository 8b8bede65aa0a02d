"""The encoder-decoder of `decoder.py` written in PyTorch by hand: the same equations, the same sizes."""

import torch
from torch import nn
from torch.nn import functional as F


class EncoderDecoder(nn.Module):
    """An LSTM encoder; a dense bridge; additive attention that asks with the state before; an LSTM decoder."""

    def __init__(self, vocabulary, units):
        super().__init__()
        self.source_embedding = nn.Embedding(vocabulary, units)
        self.embedding = nn.Embedding(vocabulary, units)
        self.encoder = nn.LSTM(units, units, batch_first=True)
        self.bridge = nn.Linear(2 * units, 2 * units)
        self.query = nn.Linear(units, units, bias=False)
        self.keys = nn.Linear(units, units, bias=False)
        self.scale = nn.Linear(units, 1, bias=False)
        self.cell = nn.LSTMCell(2 * units, units)
        self.words = nn.Linear(units, vocabulary)

    def encode(self, source):
        """int `[batch, source]` → the decoder's first states, and (memory, keys, mask)."""
        memory, (h, c) = self.encoder(self.source_embedding(source))
        states = torch.tanh(self.bridge(torch.cat([h[0], c[0]], -1))).chunk(2, -1)
        return states, (memory, self.keys(memory), source != 0)

    def advance(self, embedded, states, read):
        """One step: `[batch, units]` → the new states."""
        memory, keys, mask = read
        e = self.scale(torch.tanh(self.query(states[0])[:, None] + keys))[..., 0]
        a = torch.softmax(e.masked_fill(~mask, -1e9), -1)
        context = torch.bmm(a[:, None], memory)[:, 0]
        return self.cell(torch.cat([embedded, context], -1), states)

    def forward(self, source, tokens):
        """Logits `[batch, time, vocabulary]` of the teacher's words."""
        states, read = self.encode(source)
        embedded, outputs = self.embedding(tokens), []
        for t in range(tokens.shape[1]):
            states = self.advance(embedded[:, t], states, read)
            outputs.append(states[0])
        return self.words(torch.stack(outputs, 1))

    @torch.no_grad()
    def beam(self, source, start, length, width):
        """The words of the best of `width` prefixes, `[batch, length]`; no hypothesis ends. Width 1 is greedy."""
        batch = len(source)
        states, read = self.encode(source)
        states, read = (tuple(x.repeat_interleave(width, 0) for x in nest) for nest in (states, read))
        tokens = torch.full((batch * width,), start)
        scores = torch.full((batch, width), -1e9)
        scores[:, 0] = 0
        words = torch.zeros((batch, width, 0), dtype=torch.long)
        first = torch.arange(batch)[:, None] * width
        for _ in range(length):
            states = self.advance(self.embedding(tokens), states, read)
            log_probs = F.log_softmax(self.words(states[0]), -1).view(batch, width, -1)
            scores, index = (scores[..., None] + log_probs).flatten(1).topk(width)
            parent, token = index // log_probs.shape[-1], index % log_probs.shape[-1]
            rows = (first + parent).flatten()
            states = tuple(x[rows] for x in states)
            words = torch.cat([words.flatten(0, 1)[rows].view(batch, width, -1), token[..., None]], -1)
            tokens = token.flatten()
        return words[:, 0]
