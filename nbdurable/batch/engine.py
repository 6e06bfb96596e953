"""What `papermill --engine nbdurable` finds: the entry point, and nothing else.

papermill imports every registered engine whenever it is imported itself, and imports this one in
the middle of its own start. So this module imports nothing; the work is in `execution.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode


class NbdurableEngine:
    """The three functions papermill calls, and no base class: that would be a circle."""

    @classmethod
    def execute_notebook(
        cls, nb: NotebookNode, kernel_name: str, **options: object
    ) -> NotebookNode:
        """Run the notebook as a durable workflow, or go on with the run it was.

        Args:
            run_id: Name of the run; by default made from notebook, parameters and output path.
        """
        from nbdurable.batch.execution import execute

        return execute(nb, kernel_name, **options)  # type: ignore[arg-type]  # papermill's keywords.

    @classmethod
    def nb_kernel_name(cls, nb: NotebookNode, name: str | None = None) -> str:
        from papermill.utils import nb_kernel_name

        return str(nb_kernel_name(nb, name))

    @classmethod
    def nb_language(cls, nb: NotebookNode, language: str | None = None) -> str:
        from papermill.utils import nb_language

        return str(nb_language(nb, language))
