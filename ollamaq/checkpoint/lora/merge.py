"""Adapters placed on their base's tensors: each changed one becomes a lazy tensor that merges the rows asked for."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ollamaq.checkpoint.directory import Checkpoint
from ollamaq.checkpoint.lora.adapter import Adapter, Update
from ollamaq.checkpoint.lora.edits import BLOCK, AddedVector, Edit, OtherRows, WithMagnitude, edited, rows_of_matrix
from ollamaq.checkpoint.lora.lowrank import Factors, LowRank
from ollamaq.errors import ModelRefused
from ollamaq.tensors import CASTS, Tensor

HEAD = "lm_head.weight"
EMBEDDINGS = re.compile(r"(.*\.)?(embed_tokens|wte|word_embeddings|tok_embeddings|embed_in)\.weight")
HEADS = re.compile(r"((language_)?model\.)?(lm_head|embed_out|output)\.weight")
HEADLESS = ("gemma", "gemma2", "cohere", "cohere2")
"""Model types whose GGUF has no head beside the embedding."""

SPELLINGS = (
    ("", ""),
    ("", "model."),
    ("model.", ""),
    ("model.language_model.", "language_model.model."),
    ("model.language_model.", "model."),
    ("language_model.model.", "model.language_model."),
    ("language_model.model.", "model."),
    ("language_model.", ""),
    ("model.", "language_model.model."),
    ("model.", "model.language_model."),
    ("lm_head", "language_model.lm_head"),
)
"""Beginnings of names: as a trainer's class has them, and as a checkpoint of the same weights may."""

EXPERTS = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "gate_proj": (("gate_proj",), ("w1",)),
    "up_proj": (("up_proj",), ("w3",)),
    "down_proj": (("down_proj",), ("w2",)),
}
"""Parameters of all experts, and what they are made of where a checkpoint has a tensor for each expert."""
INPUTS_FIRST = ("gpt_oss",)
"""Model types whose stacks of experts are inputs x outputs."""


def merge(base: Checkpoint, adapters: Sequence[Adapter]) -> Checkpoint:
    """The base's tensors with the adapters merged in, one after another; nothing but headers is read.

    A head that shares the embedding's weights gets weights of its own where training told them apart: peft's merge
    would put into both what was trained in one.

    Raises:
        ModelRefused: an adapter has no place on the base, or two of them exclude each other.
    """
    placed = _Placed(base)
    for adapter in adapters:
        placed.add(adapter)
    tensors, config = placed.result(adapters)
    return dataclasses.replace(base, tensors=tensors, config=config, kept=dict)


def products(base: Checkpoint, adapter: Adapter) -> dict[str, LowRank]:
    """What an adapter adds to the base's matrices, by tensor.

    Raises:
        ModelRefused: it does more than that, or has no place on the base.
    """
    placed = _Placed(base)
    placed.add(adapter)
    found: dict[str, LowRank] = {}
    for name, edits in placed.edits.items():
        for edit in edits:
            if name not in base.tensors or not isinstance(edit, LowRank) or not edit.plain:
                raise _more(adapter, name)
            found[name] = edit
    if placed.replaced:
        raise _more(adapter, next(iter(placed.replaced)))
    return found


def _more(adapter: Adapter, name: str) -> ModelRefused:
    return ModelRefused(
        f"{adapter.path} does more to {name!r} than an adapter in GGUF can say",
        next_step="merge it: leave --adapter-only out",
    )


class _Placed:
    """The base's tensors, and the edits that each gets."""

    def __init__(self, base: Checkpoint) -> None:
        self.base = base
        self.tensors = dict(base.tensors)
        self.edits: dict[str, list[Edit]] = defaultdict(list)
        self.replaced: dict[str, Tensor] = {}
        self.embedding = next((name for name in self.tensors if EMBEDDINGS.fullmatch(name)), None)
        self.tied = self.embedding is not None and not any(HEADS.fullmatch(name) for name in self.tensors)

    def add(self, adapter: Adapter) -> None:
        for name, tensor in adapter.bases.items():
            found = self._find(adapter, name)
            if not (self.tied and found == HEAD):
                self.tensors[found] = self._fitting(adapter, found, tensor)
            elif self.embedding and self.embedding not in self.replaced:
                self.tensors[self.embedding] = self._fitting(adapter, self.embedding, tensor)
        for name, tensor in adapter.replaced.items():
            found = self._find(adapter, name)
            if found in self.replaced:
                raise ModelRefused(
                    f"{adapter.path} replaces {found!r}, and so does another adapter", next_step="publish them apart"
                )
            self.replaced[found] = self._fitting(adapter, found, tensor)
        for name, (tensor, place) in adapter.tokens.items():
            found = self._find(adapter, name)
            row = self._original(found)
            if max(place, default=0) >= row.n_rows or tensor.row != row.row:
                raise self._misfit(adapter, found, f"rows up to {max(place)} of {tensor.row} values", row)
            self._edit(adapter, found, row, OtherRows(tensor, place))
        for update in adapter.updates.values():
            self._update(adapter, update)

    def result(self, adapters: Sequence[Adapter]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The merged tensors in the base's order (an added head first), and the config that fits them."""
        config = copy.deepcopy(self.base.config)
        if self.tied and self.embedding:
            self._head(self.embedding, any(adapter.keeps_tied for adapter in adapters), config)
        tensors = {}
        for name, original in (self.tensors | self.replaced).items():
            tensor = dataclasses.replace(original, name=name)
            tensors[name] = edited(tensor, self.edits[name]) if self.edits[name] else tensor
        if self.embedding and (rows := tensors[self.embedding].shape[0]) != self.base.tensors[self.embedding].shape[0]:
            inner = config.get("text_config")
            (inner if isinstance(inner, dict) else config)["vocab_size"] = rows
        return tensors, config

    def _head(self, embedding: str, keep: bool, config: dict[str, Any]) -> None:
        """Decide whether a head that shares the embedding's weights still does."""
        ours, heads = (self.edits[name] for name in (embedding, HEAD))
        same = keep or (
            not heads
            and HEAD not in self.replaced
            and embedding not in self.replaced
            and all(isinstance(edit, OtherRows) for edit in ours)
        )
        if not same and not ours and not heads and HEAD in self.replaced and embedding in self.replaced:
            same = _equal(self.replaced[HEAD], self.replaced[embedding])
        if same:
            if HEAD in self.replaced:
                self.replaced.setdefault(embedding, self.replaced.pop(HEAD))
            ours[:] = ours or heads
            heads.clear()
            return
        if config.get("model_type") in HEADLESS:
            raise ModelRefused(
                f"{self.base.path} has a head that shares the embedding's weights, of which only one was trained",
                next_step="train without embed_tokens and lm_head, or with ensure_weight_tying",
            )
        self.tensors = {HEAD: self.tensors[embedding]} | self.tensors
        config["tie_word_embeddings"] = False

    def _original(self, name: str) -> Tensor:
        """What edits of a tensor start from."""
        if self.tied and name == HEAD and self.embedding:
            return self.replaced.get(name, self.tensors[self.embedding])
        return self.replaced.get(name, self.tensors[name])

    def _find(self, adapter: Adapter, name: str) -> str:
        """The base's name of a tensor that an adapter names."""
        found = self._look(name)
        if found is None:
            raise self._lacking(adapter, name)
        return found

    def _look(self, name: str) -> str | None:
        for before, after in SPELLINGS:
            if name.startswith(before) and (spelled := after + name.removeprefix(before)) in self.tensors:
                return spelled
        return HEAD if self.tied and HEADS.fullmatch(name) else None

    def _fitting(self, adapter: Adapter, name: str, tensor: Tensor) -> Tensor:
        """A tensor in another's place: of its shape, but for the rows of a resized vocabulary."""
        there = self._original(name)
        resized = (EMBEDDINGS.fullmatch(name) or HEADS.fullmatch(name)) and len(tensor.shape) == 2
        if tensor.shape[1 if resized else 0 :] != there.shape[1 if resized else 0 :]:
            raise self._misfit(adapter, name, str(list(tensor.shape)), there)
        return tensor

    def _misfit(self, adapter: Adapter, name: str, ours: str, there: Tensor) -> ModelRefused:
        return ModelRefused(
            f"{adapter.path} has {ours} for {name!r}, and the base {self.base.path} has {list(there.shape)} there",
            next_step="is it the base that the adapter was trained on? Name it: --base DIR",
        )

    def _update(self, adapter: Adapter, update: Update) -> None:
        """Place factors on a matrix, on a stack of experts, or on the experts one by one."""
        if (found := self._look(f"{update.name}.weight")) is not None:
            original = self._original(found)
            by_input = update.embedding or bool(adapter.config.get("fan_in_fan_out"))
            if adapter.mlx:
                by_input = bool(EMBEDDINGS.fullmatch(found))
            factors = _factors(adapter, update, original.n_rows // rows_of_matrix(original))
            self._place(adapter, update, found, update.name, factors, by_input)
            return
        for module, parameter in self._parameters(adapter, update):
            if self._place_experts(adapter, update, module, parameter):
                return
        raise self._lacking(adapter, update.name)

    def _place(self, adapter: Adapter, update: Update, found: str, name: str, factors: Factors, by_input: bool) -> None:
        original = self._original(found)
        ours = (factors.inputs, factors.outputs) if by_input else (factors.outputs, factors.inputs)
        if not factors.rank or original.shape[-2:] != ours:
            raise self._misfit(adapter, found, f"factors {_shapes(update)} of a {ours[0]} x {ours[1]} matrix", original)
        product = LowRank(factors, adapter.scale(name, factors.rank), ours[0], by_input)
        self._edit(adapter, found, original, product)
        if update.magnitude:
            by_column = by_input and not adapter.mlx
            if factors.experts > 1 or update.magnitude.shape != (ours[1] if by_column else ours[0],):
                raise self._misfit(adapter, found, f"a magnitude of {list(update.magnitude.shape)}", original)
            self.edits[found][-1] = WithMagnitude(product, update.magnitude, original, by_column)
        if update.bias:
            bias = self._find(adapter, f"{update.name}.bias")
            there = self._original(bias)
            if update.bias.shape != there.shape:
                raise self._misfit(adapter, bias, f"a bias of {list(update.bias.shape)}", there)
            self._edit(adapter, bias, there, AddedVector(update.bias, product.scale))

    def _edit(self, adapter: Adapter, name: str, original: Tensor, edit: Edit) -> None:
        if original.type not in CASTS:
            raise ModelRefused(
                f"{self.base.path} has {name!r} in {original.type.name}, into which {adapter.path} cannot be merged",
                next_step="give the base in BF16 or F16: --base DIR",
            )
        self.edits[name].append(edit)

    def _parameters(self, adapter: Adapter, update: Update) -> Iterator[tuple[str, str]]:
        """Stacks of experts that an update may be for: their module, and what the parameter is called."""
        module, _, last = update.name.rpartition(".")
        if adapter.mlx:
            if module.endswith(".switch_mlp"):
                yield f"{module.removesuffix('switch_mlp')}experts", last
            return
        module = update.name
        while module.endswith(".base_layer"):  # peft wraps a module once for each of its parameters
            module = module.removesuffix(".base_layer")
        targets = adapter.config.get("target_parameters")
        for target in targets if isinstance(targets, list) else ():
            owner, _, parameter = str(target).rpartition(".")
            if f".{module}".endswith(f".{owner}") or f".{owner}".endswith(f".{module}"):
                yield module, parameter

    def _place_experts(self, adapter: Adapter, update: Update, module: str, parameter: str) -> bool:
        """Place factors on a parameter of all experts, if the base has it in their shape."""
        name = f"{module}.{parameter}"
        if (found := self._look(name)) is not None:
            original = self._original(found)
            factors = _factors(adapter, update, original.n_rows // rows_of_matrix(original))
            shape, ours = original.shape[-2:], (factors.outputs, factors.inputs)
            if not factors.rank or shape not in (ours, ours[::-1]):
                return False
            inputs_first = self._inputs_first(adapter) if ours[0] == ours[1] else shape != ours
            self._place(adapter, update, found, name, factors, inputs_first)
            return True
        for parts in EXPERTS.get(parameter, ()):
            if experts := list(self._experts(module, parts)):
                factors = _factors(adapter, update, len(experts))
                originals = [self.tensors[part] for part in experts[0]]
                outputs = sum(original.shape[0] for original in originals)
                if not factors.rank or (outputs, originals[0].row) != (factors.outputs, factors.inputs):
                    return False
                scale = adapter.scale(name, factors.rank)
                for expert, names in enumerate(experts):
                    first = 0
                    for part, original in zip(names, originals, strict=True):
                        rows = original.shape[0]
                        product = LowRank(factors, scale, rows, expert=expert, first=first)
                        self._edit(adapter, part, self._fitting(adapter, part, original), product)
                        first += rows
                return True
        return False

    def _inputs_first(self, adapter: Adapter) -> bool:
        """Whether an adapter takes stacks for inputs x outputs, which depends on versions of peft and transformers.

        The shapes of any stack tell, but not those of square matrices (gpt-oss's ``down_proj``).
        """
        for update in adapter.updates.values():
            for module, parameter in self._parameters(adapter, update):
                if found := self._look(f"{module}.{parameter}"):
                    shape = self._original(found).shape[-2:]
                    ours = (update.B.shape[0], update.A.row)
                    if ours[0] != ours[1] and shape in (ours, ours[::-1]):
                        return shape != ours
        return self.base.config.get("model_type") in INPUTS_FIRST

    def _experts(self, module: str, parts: Sequence[str]) -> Iterator[list[str]]:
        """The names of each expert's parts, while there are any."""
        for expert in itertools.count():
            names = [self._look(f"{module}.{expert}.{part}.weight") for part in parts]
            found = [name for name in names if name is not None]
            if len(found) < len(parts):
                return
            yield found

    def _lacking(self, adapter: Adapter, name: str) -> ModelRefused:
        return ModelRefused(
            f"{adapter.path} changes {name!r}, which the base {self.base.path} lacks",
            next_step="is it the base that the adapter was trained on? Name it: --base DIR",
        )


def _factors(adapter: Adapter, update: Update, experts: int) -> Factors:
    return Factors(update.A, update.B, adapter.mlx and len(update.B.shape) == 2, experts)


def _shapes(update: Update) -> str:
    return f"{list(update.A.shape)} and {list(update.B.shape)}"


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same, read up to the first difference."""
    step = max(1, BLOCK // one.row)
    return (one.type, one.shape) == (other.type, other.shape) and all(
        np.array_equal(one.rows(row, min(row + step, one.n_rows)), other.rows(row, min(row + step, one.n_rows)))
        for row in range(0, one.n_rows, step)
    )
