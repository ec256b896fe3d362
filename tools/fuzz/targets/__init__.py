"""One module for each kind of input that is tried, named in :data:`TARGETS`. It defines:

- ``SUFFIX``: of the file in which an input that fails is kept, such as ``.safetensors``;
- ``make(random) -> bytes``: one input, drawn with a ``random.Random`` alone, so that a seed gives it again;
- ``run(data, folder) -> None``: gives the input to the pack, by way of a file in ``folder`` where it reads files.
  It returns, or raises OviError for an input that is refused. Everything else that it raises is a finding.
"""

TARGETS = (
    "safetensors",
    "gguf",
    "pth",
    "lora",
    "existing_lora",
    "captions",
    "datasets",
    "scripts",
    "prompts",
    "spans",
    "schedules",
    "skip_layers",
)
