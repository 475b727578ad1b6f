"""expert_node: task calls in; images, masks, videos and sounds out.

The node only connects: `execute_server` holds the action, `expert_services` the services,
`job_queue` the order of jobs, `worker` the thread, `expert_work` the work, `expert_health` the
diagnostics.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from unifiedmllm_ros.bridge import parameters
from unifiedmllm_ros.bridge.diagnostics import diagnostics_array, status_message
from unifiedmllm_ros.bridge.error_codes import error_message
from unifiedmllm_ros.errors import Cancelled, RequestError, UnifiedMLLMError
from unifiedmllm_ros.experts.registry import ExpertStatus
from unifiedmllm_ros.nodes.configuration import ExpertParameters
from unifiedmllm_ros.nodes.execute_server import ClientGoneError, ExecuteServer
from unifiedmllm_ros.nodes.expert_health import expert_healths, job_health, node_health
from unifiedmllm_ros.nodes.expert_services import ExpertServices
from unifiedmllm_ros.nodes.expert_statistics import ExpertStatistics, job_record
from unifiedmllm_ros.nodes.expert_work import ExpertWork, output_folder
from unifiedmllm_ros.nodes.frame import BusyError, NotActiveError
from unifiedmllm_ros.nodes.health import Health
from unifiedmllm_ros.nodes.job import Job, Outcome
from unifiedmllm_ros.nodes.job_queue import JobQueue
from unifiedmllm_ros.nodes.lifecycle import SteadyLifecycleNode
from unifiedmllm_ros.nodes.reporting import Reporter
from unifiedmllm_ros.nodes.running import run_node
from unifiedmllm_ros.nodes.worker import Worker
from unifiedmllm_ros.router import Router

RouterFactory = Callable[[ExpertParameters], Router]
_STOP_SECONDS = 30.0
_CLIENT_WATCH_SECONDS = 0.5


def load(settings: ExpertParameters) -> Router:
    """Read the configuration of the experts that the parameters name."""
    return Router.from_file(Path(settings.experts).expanduser() if settings.experts else None)


class ExpertNode(SteadyLifecycleNode):
    """Carries out task calls through `execute_task`, `edit_image` and `generate_image`.

    Args:
        router_factory: makes the router when the node is configured, in the worker's thread.
        options: of rclpy's Node, such as namespace and parameter_overrides.
    """

    def __init__(self, router_factory: RouterFactory = load, **options: Any) -> None:
        super().__init__('expert_node', **options)
        self.statistics = ExpertStatistics()
        self._report = Reporter(self.get_logger(), self.statistics)
        self._factory = router_factory
        self._work: ExpertWork | None = None
        self._halted = threading.Event()
        self._halted.set()
        self._settings = parameters.declare(self, ExpertParameters)
        output_folder(self._settings)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._worker: Worker[None] = Worker(lambda frame: None, self._report, 'experts')
        self._jobs = JobQueue(
            self._worker,
            self._carry_out,
            lambda: self._settings.max_pending_jobs,
            self._ended,
            self._report,
        )
        self._action = ExecuteServer(self, self.admit, self._jobs.sweep, lambda: self._settings)
        self._expert_services = ExpertServices(self, self, self._report)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # A steady clock, so that all goes on while a simulation stands still.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer = self._new_diagnostics_timer()
        self.create_timer(_CLIENT_WATCH_SECONDS, self._watch_clients, clock=self._steady)

    @property
    def settings(self) -> ExpertParameters:
        """The parameters in effect."""
        return self._settings

    def configure(self) -> None:
        """Read the experts' configuration; each expert is loaded when it is first needed."""
        settings = self._settings
        self._work = self._worker.submit(lambda: ExpertWork(self._factory(settings))).result()
        experts = self._worker.submit(self._work.router.registry.list).result()
        ready = [expert.name for expert in experts if expert.state != 'unavailable']
        self.get_logger().info(f'experts that can be loaded: {", ".join(ready) or "none"}')

    def activate(self) -> None:
        """Take jobs."""
        self._halted.clear()

    def deactivate(self) -> None:
        """Take no more jobs, and stop those that run or wait."""
        self._halted.set()
        self._jobs.stop_all(NotActiveError('expert_node was deactivated during the job'))
        if not self._worker.wait_idle(_STOP_SECONDS):
            raise UnifiedMLLMError(f'the expert did not stop within {_STOP_SECONDS:.0f} s')

    def cleanup(self) -> None:
        """Unload all experts."""
        if self._work is not None:
            self._worker.submit(self._work.router.close).result()
        self._work = None

    def failed(self, error: Exception) -> None:
        """Show a failed transition in the diagnostics."""
        self.statistics.error(error_message(error))

    def destroy_node(self) -> None:
        """End the worker, then the node."""
        self._halted.set()
        self._jobs.stop_all(NotActiveError('expert_node has ended'))
        self._worker.stop(_STOP_SECONDS)
        self._action.destroy()
        super().destroy_node()

    # In the executor's thread.

    def admit(self, job: Job) -> None:
        """Queue a job, or end it where the node takes none."""
        if self._halted.is_set():
            job.finish(NotActiveError(f'expert_node is {self.state_label}: activate it'))
            self._ended(job)
        else:
            self._jobs.add(job)

    def expert_statuses(self) -> tuple[ExpertStatus, ...]:
        """Return all experts as they are now."""
        if self._work is None:
            raise NotActiveError(f'expert_node is {self.state_label}: configure it')
        return self._work.router.registry.list()

    def unload(self, name: str) -> float:
        """Free an expert and return the MiB that this gave back; 0 where it was not loaded."""
        known = {expert.name: expert for expert in self.expert_statuses()}
        if name not in known:
            raise RequestError(f'expert {name!r} is none of {", ".join(sorted(known))}')
        if known[name].state == 'busy':
            raise BusyError(f'expert {name!r} is at work: cancel its job or wait for its end')
        assert self._work is not None
        self._work.router.registry.unload(name)
        return known[name].memory_mib if known[name].state == 'loaded' else 0.0

    def _watch_clients(self) -> None:
        self._action.look_for_clients()
        self._jobs.sweep()

    def _check_parameters(self, changes: Sequence[Any]) -> SetParametersResult:
        try:
            values = parameters.own_values(ExpertParameters, changes)
            output_folder(parameters.changed(self._settings, values))
        except UnifiedMLLMError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, changes: Sequence[Any]) -> None:
        values = parameters.own_values(ExpertParameters, changes)
        self._settings = parameters.changed(self._settings, values)
        if 'diagnostics_period' in values:
            self.destroy_timer(self._diagnostics_timer)
            self._diagnostics_timer = self._new_diagnostics_timer()

    def _new_diagnostics_timer(self) -> Any:
        period = self._settings.diagnostics_period
        return self.create_timer(period, self._publish_diagnostics, clock=self._steady)

    def _publish_diagnostics(self) -> None:
        now = self.statistics.snapshot()
        jobs = [job_record(job) for job in self._jobs.jobs]
        healths = {'experts': node_health(self.state_label, jobs, now)}
        experts = expert_healths(self._work.router.registry.list() if self._work else (), now)
        healths |= {f'expert {name}': health for name, health in experts.items()}
        shown = jobs or ([now.last_job] if now.last_job else [])
        healths |= {f'job {job.number}': job_health(job) for job in shown}
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(
            diagnostics_array([self._status(*item) for item in healths.items()], stamp)
        )

    def _status(self, name: str, health: Health) -> Any:
        full = f'{self.get_fully_qualified_name()}: {name}'
        return status_message(full, 'experts', health.level, health.summary, health.values)

    # In the worker's thread.

    def _carry_out(self, job: Job) -> Outcome:
        if self._work is None:
            raise NotActiveError('expert_node has no experts: configure and activate it')
        images = job.order.images
        header = images[0].header if images else Header(stamp=self.get_clock().now().to_msg())
        return self._work.carry_out(job, self._settings, header)

    # In either.

    def _ended(self, job: Job) -> None:
        self.statistics.ended(job)
        if isinstance(job.ended, BaseException) and not isinstance(
            job.ended, Cancelled | ClientGoneError
        ):
            self._report(job.ended)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is shut down; return the exit status."""
    return run_node(ExpertNode, arguments)
