"""Go's ``text/template`` as Ollama uses it: an engine for its TEMPLATEs that needs no Go.

The grammar, the semantics and the errors are those of Go 1.26 and of Ollama 0.34.2's packages ``template`` and ``api``;
the integration tests compare them. Other than Go, it bounds depth, steps and output, refuses to print addresses in
memory, has no complex numbers, and slices have no capacity beyond their length.
"""

from ollamaq.chat.gotemplate.errors import TemplateError
from ollamaq.chat.gotemplate.template import GoTemplate, ollama_prompt

__all__ = ["GoTemplate", "TemplateError", "ollama_prompt"]
