"""ComfyUI's entry to the pack."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """The extension object ComfyUI asks for; imported here so that importing the pack costs nothing."""
    from .nodes.extension import OviExtension

    return OviExtension()
