"""The services of the expert node. Those that take long are answered when their job ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from unifiedmllm_ros import msg
from unifiedmllm_ros.bridge.error_codes import error_code, error_message
from unifiedmllm_ros.bridge.experts import expert_state_message
from unifiedmllm_ros.bridge.results import provenance_message
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.experts.registry import ExpertStatus
from unifiedmllm_ros.nodes.deferred import DeferredService, Reply
from unifiedmllm_ros.nodes.job import Job, Order, Outcome, Standing
from unifiedmllm_ros.srv import EditImage, GenerateImage, ListExperts, UnloadExpert


class ExpertHost(Protocol):
    """What the services ask of the node."""

    def admit(self, job: Job) -> None:
        """Take a job, or end it."""
        ...

    def expert_statuses(self) -> tuple[ExpertStatus, ...]:
        """Return all experts. Raises NotActiveError where none are configured."""
        ...

    def unload(self, name: str) -> float:
        """Free an expert and return the MiB that this gave back. Raises UnifiedMLLMError."""
        ...


class ExpertServices:
    """edit_image, generate_image, list_experts and unload_expert.

    Args:
        node: on which they are offered.
        host: does the work.
        report: is told what went wrong with an answer, such as a client that has gone.
    """

    def __init__(
        self, node: Any, host: ExpertHost, report: Callable[[BaseException], None]
    ) -> None:
        self._node = node
        self._host = host
        self._report = report
        self._deferred = [
            DeferredService(node, EditImage, 'edit_image', self._edit),
            DeferredService(node, GenerateImage, 'generate_image', self._generate),
        ]
        self._immediate = [
            node.create_service(ListExperts, 'list_experts', self._list),
            node.create_service(UnloadExpert, 'unload_expert', self._unload),
        ]

    def destroy(self) -> None:
        """Take the services back."""
        for service in self._deferred:
            service.destroy()
        for immediate in self._immediate:
            self._node.destroy_service(immediate)

    def _edit(self, request: Any, reply: Reply) -> None:
        image = request.image
        given = image.width or image.height or image.data or image.encoding
        call = _call('regedit' if request.regions else 'edit', request.instruction, request.regions)
        self._submit(Order(call, (image,) if given else (), seed=request.seed), reply)

    def _generate(self, request: Any, reply: Reply) -> None:
        call = _call('layout' if request.regions else 'gen', request.prompt, request.regions)
        sides = {'width': request.width, 'height': request.height}
        values = {name: side for name, side in sides.items() if side}
        self._submit(Order(call, seed=request.seed, values=values), reply)

    def _submit(self, order: Order, reply: Reply) -> None:
        def end(outcome: Outcome | BaseException) -> None:
            if isinstance(outcome, Outcome):
                _tell_image(reply.response, outcome)
            else:
                _tell_error(reply.response, outcome)
            self._send(reply)

        self._host.admit(Job(order, _unheard, end))

    def _list(self, request: Any, response: Any) -> Any:
        try:
            experts = self._host.expert_statuses()
        except UnifiedMLLMError as error:
            return _tell_error(response, error)
        response.experts = [
            expert_state_message(expert)
            for expert in experts
            if not request.task or request.task in expert.tasks
        ]
        return response

    def _unload(self, request: Any, response: Any) -> Any:
        try:
            response.freed_mib = float(self._host.unload(request.name))
        except UnifiedMLLMError as error:
            return _tell_error(response, error)
        return response

    def _send(self, reply: Reply) -> None:
        try:
            reply.send()
        except Exception as error:  # of the middleware: whoever asked may have gone
            self._report(error)


def _call(task: str, argument: str, regions: Iterable[Any]) -> msg.TaskCall:
    return msg.TaskCall(task=task, argument=argument, regions=list(regions))


def _tell_image(response: Any, outcome: Outcome) -> None:
    if outcome.messages.images:
        response.image = outcome.messages.images[0]
    if outcome.paths:
        response.path = outcome.paths[0]
    response.provenance = provenance_message(outcome.call.task, outcome.result.provenance)


def _tell_error(response: Any, error: BaseException) -> Any:
    response.error_code = error_code(error)
    response.error_msg = encodable(error_message(error))
    return response


def _unheard(standing: Standing) -> None:
    """A service tells nothing before its end."""
