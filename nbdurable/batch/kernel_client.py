"""The client of a run's kernel: jupyter_client's, without a wait that cells have no use for.

Owns: when a kernel counts as ready. Never knows what is asked of it.
"""

from __future__ import annotations

import queue
import time

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import KernelManager

# As jupyter_client waits: for a reply before it asks again, and for the first word on iopub.
REPLY_S = 1.0
FIRST_WORD_S = 0.2


class PromptClient(AsyncKernelClient):
    """Mutable: the channels; owned by the thread that has the kernel."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - jupyter_client's signature.
        """Return once the kernel has answered on both channels.

        jupyter_client's own goes on until nothing has come for 0.2 s, so that its caller finds no
        message that is not for it. Whoever runs cells tells messages apart by what they answer.

        Raises:
            RuntimeError: It died, or the time is over; in jupyter_client's words.
        """
        begun_s = time.monotonic()
        while True:
            self.kernel_info()
            try:
                message = await self.shell_channel.get_msg(timeout=REPLY_S)
                if message["msg_type"] == "kernel_info_reply":
                    await self.iopub_channel.get_msg(timeout=FIRST_WORD_S)
                    self._handle_kernel_info_reply(message)
                    return
            except queue.Empty:
                pass
            if not await self.is_alive():
                raise RuntimeError("Kernel died before replying to kernel_info")
            if timeout is not None and time.monotonic() - begun_s > timeout:
                raise RuntimeError(f"Kernel didn't respond in {timeout:.0f} seconds")


def make_prompt(kernel_manager: KernelManager) -> None:
    """Let a kernel manager make such clients, unless somebody has told it which to make."""
    if kernel_manager.client_factory is AsyncKernelClient:
        kernel_manager.client_factory = PromptClient
