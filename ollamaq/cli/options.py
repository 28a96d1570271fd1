"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ollamaq.sizes import parse_size

Mix = Annotated[str, typer.Option("--q", "-q", help="The mix: Q4_K_M, Q5_K_M, Q6_K, Q8_0, F16, …")]
SourcePath = Annotated[
    Path,
    typer.Argument(
        help="A Hugging Face model directory, a LoRA adapter's, hf://org/name, or a GGUF file.", show_default=False
    ),
]
Base = Annotated[
    Path | None,
    typer.Option(
        "--base", help="The model an adapter was trained on.", show_default="the one it names, if it is on this machine"
    ),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter", metavar="DIR[=WEIGHT]", help="Merge this LoRA adapter too (repeatable).", show_default=False
    ),
]
Mmproj = Annotated[bool, typer.Option("--mmproj", help="Of a model that sees: its projector, as a GGUF of its own.")]
ChatFormat = Annotated[
    str | None,
    typer.Option(
        "--chat-format",
        metavar="NAME",
        help="What a model without chat template was trained with (see `ollamaq template list`).",
        show_default=False,
    ),
]
ReplaceTemplate = Annotated[
    bool,
    typer.Option("--replace-template", help="Use --chat-format though the model has a template of its own."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but the result's name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", "-t", min=1, envvar="OLLAMAQ_THREADS", help="Threads to work with.", show_default="all processors"
    ),
]


def amount(text: str) -> int:
    """Bytes of 512M or 1G."""
    if not (count := parse_size(text)):
        raise typer.BadParameter(f"{text!r} is not an amount such as 512M or 1G")
    return count


MaxMemory = Annotated[
    int,
    typer.Option(
        "--max-memory",
        parser=amount,
        metavar="SIZE",
        envvar="OLLAMAQ_MAX_MEMORY",
        help="What may be held of the weights while they are converted: 512M, 1G.",
    ),
]
ImatrixFile = Annotated[
    str | None,
    typer.Option("--imatrix", help="An importance matrix, as llama-imatrix writes it.", show_default=False),
]
IncludeWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--include-weights", help="Use only its entries whose names contain this (repeatable).", show_default=False
    ),
]
ExcludeWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-weights", help="Use none of its entries whose names contain this (repeatable).", show_default=False
    ),
]
Pure = Annotated[bool, typer.Option("--pure", help="No exceptions: the mix's default type for every tensor.")]
LeaveOutputTensor = Annotated[
    bool, typer.Option("--leave-output-tensor", help="Do not quantize output.weight, or not again.")
]
OutputTensorType = Annotated[
    str | None, typer.Option("--output-tensor-type", help="The type of output.weight.", show_default=False)
]
TokenEmbeddingType = Annotated[
    str | None, typer.Option("--token-embedding-type", help="The type of the embeddings.", show_default=False)
]
TensorType = Annotated[
    list[str] | None,
    typer.Option(
        "--tensor-type",
        metavar="REGEX=TYPE",
        help="The type of tensors whose names match: attn_v=q8_0 (repeatable; the first that matches).",
        show_default=False,
    ),
]
TensorTypeFile = Annotated[
    Path | None, typer.Option("--tensor-type-file", help="A file of such REGEX=TYPE.", show_default=False)
]
AllowRequantize = Annotated[
    bool, typer.Option("--allow-requantize", help="Quantize again what is quantized already, though it loses more.")
]
OverrideKv = Annotated[
    list[str] | None,
    typer.Option(
        "--override-kv",
        metavar="KEY=TYPE:VALUE",
        help="Set a metadata key; TYPE is int, float, bool or str (repeatable).",
        show_default=False,
    ),
]
KeepSplit = Annotated[
    bool, typer.Option("--keep-split", help="Write as many files as the model has: OUTPUT-00001-of-….gguf.")
]
PruneLayers = Annotated[
    str | None,
    typer.Option("--prune-layers", metavar="L0,L1,…", help="Leave these layers out of the model.", show_default=False),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep what an interruption leaves, and go on from what one has left.")
]
To = Annotated[
    str,
    typer.Option(
        "--to",
        envvar="OLLAMAQ_TO",
        help="Where to: auto, an Ollama server's address, container, store (this machine's models), or file.",
    ),
]
Image = Annotated[
    str, typer.Option("--image", envvar="OLLAMAQ_IMAGE", help="With --to container: the image of Ollama to run.")
]
Ollama = Annotated[
    list[str] | None,
    typer.Option(
        "--ollama",
        metavar="VERSION",
        help="It must work on this version (repeatable). With --to container it is tested on each, a tag of --image.",
        show_default=False,
    ),
]
Cpus = Annotated[
    float | None,
    typer.Option(
        "--cpus", min=0.01, help="With --to container: processors it may use.", show_default="all", metavar="N"
    ),
]
Keep = Annotated[
    int,
    typer.Option(
        "--keep", min=0, max=99, envvar="OLLAMAQ_KEEP", help="Versions before to keep, as NAME-prev-1, NAME-prev-2, …"
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", min=1, max=65535, help="With --to container: the loopback port to use.", show_default="a free one"
    ),
]
Gpu = Annotated[bool, typer.Option("--gpu", help="With --to container: hand the GPUs through.")]


def _regex(text: str | None) -> str | None:
    try:
        re.compile(text or "")
    except re.error as error:
        raise typer.BadParameter(f"{text!r} is not a regular expression: {error}") from error
    return text


Expect = Annotated[
    str | None,
    typer.Option(
        "--expect",
        callback=_regex,
        help="Text that the answer to the first prompt must contain (a case-insensitive regex).",
        show_default=False,
    ),
]
Prompt = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt", help="Ask this in the smoke test instead of the default (repeatable).", show_default=False
    ),
]
Report = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write what was seen to a file: .html, .xml (JUnit), .md or .json (repeatable).",
        show_default=False,
    ),
]
SuiteFile = Annotated[
    Path | None,
    typer.Option("--suite", help="A smoke.toml with tests of your own, run after the others.", show_default=False),
]
ModelSource = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A package's directory, a bundle, or a model of this machine's Ollama.",
        show_default=False,
    ),
]
Reference = Annotated[str, typer.Argument(metavar="REF", help="host[:port]/namespace/name:tag", show_default=False)]
Insecure = Annotated[bool, typer.Option("--insecure", help="Speak http to the registry instead of https.")]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", help="Trust these certificate authorities too (PEM).", show_default=False),
]
Parallel = Annotated[int, typer.Option("--parallel", min=1, max=64, help="Layers to transfer at the same time.")]
ChunkSize = Annotated[
    int,
    typer.Option("--chunk-size", parser=amount, metavar="SIZE", help="Bytes of one request: 64M."),
]
LocalName = Annotated[str | None, typer.Argument(help="What to call it here.", show_default="what it is called there")]
PackageDirectory = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="With --to file: the package's directory.", show_default="./<name>-<tag>"),
]
