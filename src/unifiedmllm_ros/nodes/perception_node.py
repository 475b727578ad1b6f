"""perception_node: camera images and a sentence in; text, boxes and masks out.

The node only connects: `inputs` and `outputs` hold the topics, `ask_server` the action, `worker`
the thread, `inquiry` the work, `health` the diagnostics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from unifiedmllm_ros.bridge import parameters
from unifiedmllm_ros.bridge.detections import instances
from unifiedmllm_ros.bridge.detections_3d import detections_3d_message
from unifiedmllm_ros.bridge.diagnostics import diagnostics_message
from unifiedmllm_ros.bridge.error_codes import error_message
from unifiedmllm_ros.bridge.image import array_to_image, rgb_to_jpeg
from unifiedmllm_ros.bridge.response import error_response
from unifiedmllm_ros.errors import Cancelled, UnifiedMLLMError
from unifiedmllm_ros.instruction import clean_instruction
from unifiedmllm_ros.nodes.ask_server import Asked, AskServer
from unifiedmllm_ros.nodes.configuration import PerceptionParameters
from unifiedmllm_ros.nodes.expert_client import Errand, ExpertClient, OnDone, OnTask
from unifiedmllm_ros.nodes.forwarding import ForwardingRouter
from unifiedmllm_ros.nodes.frame import DepthMemory, Frame, NoFrameError, NotActiveError
from unifiedmllm_ros.nodes.health import health
from unifiedmllm_ros.nodes.inputs import Inputs, Receivers
from unifiedmllm_ros.nodes.inquiry import Inquirer, Inquiry, Posed
from unifiedmllm_ros.nodes.lifecycle import SteadyLifecycleNode
from unifiedmllm_ros.nodes.outputs import Outputs
from unifiedmllm_ros.nodes.reporting import Reporter
from unifiedmllm_ros.nodes.running import run_node
from unifiedmllm_ros.nodes.statistics import Statistics
from unifiedmllm_ros.nodes.timeline import Timeline
from unifiedmllm_ros.nodes.worker import Worker
from unifiedmllm_ros.overlay import draw
from unifiedmllm_ros.perception import Perceiver

PerceiverFactory = Callable[[PerceptionParameters], Perceiver]
_STOP_SECONDS = 30.0


def load(settings: PerceptionParameters) -> Perceiver:
    """Load the perceiver that the parameters name."""
    return Perceiver.load(
        settings.model,
        threads=settings.threads,
        backend=settings.backend,
        precision=settings.precision,
    )


class PerceptionNode(SteadyLifecycleNode):
    """Answers the standing instruction for each new image, and questions through `ask`.

    Args:
        perceiver_factory: makes the perceiver when the node is configured, in the worker's thread.
        options: of rclpy's Node, such as namespace and parameter_overrides.
    """

    def __init__(self, perceiver_factory: PerceiverFactory = load, **options: Any) -> None:
        super().__init__('perception_node', **options)
        self.statistics = Statistics()
        self._report = Reporter(self.get_logger(), self.statistics)
        self._factory = perceiver_factory
        self._inquirer: Inquirer | None = None
        self._expert_client: ExpertClient | None = None
        self._outputs: Outputs | None = None
        self._newest: Frame | None = None
        self._halted = threading.Event()
        self._halted.set()
        self._depth = DepthMemory()
        self._timeline = Timeline()
        self._settings = parameters.declare(self, PerceptionParameters)
        self._instruction = _cleaned(self._settings.instruction)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._worker: Worker[Frame] = Worker(self._answer_frame, self._report)
        self._inputs = Inputs(
            self,
            Receivers(
                self._image_came,
                self._instruction_came,
                self._depth.add_depth,
                self._depth.add_camera_info,
            ),
        )
        self._ask = AskServer(
            self,
            self._worker,
            self._answer_goals,
            self._forward,
            lambda: self._settings.max_pending_questions,
            self._report,
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # A steady clock, so that a simulation that stands still is seen as well.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer = self._new_diagnostics_timer()

    @property
    def settings(self) -> PerceptionParameters:
        """The parameters in effect."""
        return self._settings

    @property
    def instruction(self) -> str:
        """The standing instruction, '' for none."""
        return self._instruction

    def configure(self) -> None:
        """Load the model and offer the topics."""
        settings = self._settings
        self._inquirer = self._worker.submit(lambda: self._load(settings)).result()
        if settings.expert_node:
            self._expert_client = ExpertClient(
                self, settings.expert_node, lambda: self._settings.expert_node_timeout
            )
        self._outputs = Outputs(self)
        info = self._inquirer.perceiver.model.info
        self.get_logger().info(f'model {info.name} on {info.backend} ({info.device}) is ready')

    def activate(self) -> None:
        """Start to listen."""
        self._timeline = Timeline()
        self._halted.clear()
        self._inputs.open(self._settings.input, self._settings.use_depth)

    def deactivate(self) -> None:
        """Stop listening, and cancel what is being answered."""
        self._halted.set()
        self._inputs.close()
        self._newest = None
        self._depth.clear()
        self._worker.forget_frame()
        if self._expert_client is not None:
            self._expert_client.stop_all(self._deactivated())
        if not self._worker.wait_idle(_STOP_SECONDS):
            raise UnifiedMLLMError(f'the model did not stop within {_STOP_SECONDS:.0f} s')

    def cleanup(self) -> None:
        """Give back the model and the topics."""
        if self._inquirer is not None:
            self._worker.submit(self._inquirer.close).result()
        self._inquirer = None
        if self._expert_client is not None:
            self._expert_client.destroy()
        self._expert_client = None
        if self._outputs is not None:
            self._outputs.destroy()
        self._outputs = None

    def failed(self, error: Exception) -> None:
        """Show a failed transition in the diagnostics."""
        self.statistics.error(error_message(error))

    def destroy_node(self) -> None:
        """End the worker, then the node."""
        self._halted.set()
        self._worker.stop(_STOP_SECONDS)
        super().destroy_node()

    # In the executor's thread.

    def _image_came(self, message: Any) -> None:
        frame = Frame(message)
        self.statistics.frame()
        if self._timeline.goes_back(frame.stamp_ns):
            self.statistics.clock_reset()
            self._depth.clear()
            self.get_logger().warning('image stamps went back: a bag began anew or a clock was set')
        self._newest = frame
        if not self._instruction:
            return
        now = self.get_clock().now().nanoseconds
        if not self._timeline.passes(now, self._settings.max_rate) or self._worker.offer(frame):
            self.statistics.drop()

    def _instruction_came(self, message: Any) -> None:
        try:
            self._instruct(clean_instruction(message.data))
        except UnifiedMLLMError as error:
            self._report(error)
            header = Header(stamp=self.get_clock().now().to_msg())
            self._respond(error_response(header, message.data, error))

    def _instruct(self, instruction: str) -> None:
        self._instruction = instruction
        if not instruction:
            self._worker.forget_frame()
        elif self._newest is not None:
            self._worker.offer(self._newest)

    def _check_parameters(self, changes: Sequence[Any]) -> SetParametersResult:
        try:
            values = parameters.own_values(PerceptionParameters, changes)
            parameters.changed(self._settings, values)
            _cleaned(values.get('instruction', ''))
        except UnifiedMLLMError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, changes: Sequence[Any]) -> None:
        values = parameters.own_values(PerceptionParameters, changes)
        self._settings = parameters.changed(self._settings, values)
        if 'instruction' in values:
            self._instruct(_cleaned(self._settings.instruction))
        if {'input', 'use_depth'} & values.keys() and not self._halted.is_set():
            self._inputs.open(self._settings.input, self._settings.use_depth)
        if 'diagnostics_period' in values:
            self.destroy_timer(self._diagnostics_timer)
            self._diagnostics_timer = self._new_diagnostics_timer()

    def _new_diagnostics_timer(self) -> Any:
        period = self._settings.diagnostics_period
        return self.create_timer(period, self._publish_diagnostics, clock=self._steady)

    def _publish_diagnostics(self) -> None:
        inquirer = self._inquirer
        model = inquirer.perceiver.model if inquirer else None
        info, counts = (model.info, getattr(model, 'counts', None)) if model else (None, None)
        now = self.statistics.snapshot()
        state = health(self.state_label, self._instruction, info, now, counts)
        name = f'{self.get_fully_qualified_name()}: perception'
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(
            diagnostics_message(
                name, self._settings.model, state.level, state.summary, state.values, stamp
            )
        )

    def _deactivated(self) -> NotActiveError:
        return NotActiveError('perception_node was deactivated during the question')

    # In the worker's thread.

    def _load(self, settings: PerceptionParameters) -> Inquirer:
        perceiver = self._factory(settings)
        if settings.expert_node and perceiver.router is not None:
            perceiver.router = ForwardingRouter(perceiver.router)
        return Inquirer(perceiver)

    def _forward(self, inquiry: Inquiry, on_task: OnTask, on_done: OnDone) -> Errand:
        if self._expert_client is None or self._halted.is_set():
            raise self._deactivated()
        image = array_to_image(inquiry.rgb, 'rgb8', inquiry.frame.header)
        return self._expert_client.start(inquiry.forwarded, image, on_task, on_done)

    def _answer_frame(self, frame: Frame) -> None:
        instruction, waited = self._instruction, time.monotonic() - frame.arrived
        if not instruction or self._halted.is_set():
            return
        posed = Posed(frame, instruction, self._halted.is_set)
        try:
            ((_, inquiry),) = self._inquire([posed])
        except Exception as error:
            self._failed(posed, error)
            return
        if isinstance(inquiry, Inquiry):
            self._publish(inquiry, waited * 1000)
        elif isinstance(inquiry, Cancelled):
            self.statistics.drop()
        else:
            self._failed(posed, inquiry)

    def _failed(self, posed: Posed, error: Exception) -> None:
        self._report(error)
        self._respond(error_response(posed.frame.header, posed.instruction, error))

    def _answer_goals(
        self, asked: Sequence[Asked]
    ) -> Iterator[tuple[int, Inquiry | UnifiedMLLMError]]:
        if self._halted.is_set():
            raise NotActiveError(f'perception_node is {self.state_label}: activate it')
        newest, places, posed = self._newest, [], []
        for place, goal in enumerate(asked):
            frame = _frame_of(goal.request) or newest
            if frame is None:
                yield (
                    place,
                    NoFrameError('no image was given and none has come yet on the image topic'),
                )
                continue
            places.append(place)
            posed.append(self._posed(goal, frame))
        for number, inquiry in self._inquire(posed) if posed else ():
            if isinstance(inquiry, Inquiry):
                self.statistics.answer(inquiry.stages, None)
            elif isinstance(inquiry, Cancelled) and not asked[places[number]].cancel():
                inquiry = self._deactivated()
            yield places[number], inquiry

    def _posed(self, goal: Asked, frame: Frame) -> Posed:
        return Posed(
            frame,
            goal.request.instruction,
            lambda: goal.cancel() or self._halted.is_set(),
            goal.on_text,
            goal.request.execute,
        )

    def _inquire(self, posed: Sequence[Posed]) -> Iterator[tuple[int, Inquiry | UnifiedMLLMError]]:
        if self._inquirer is None:
            raise NotActiveError('perception_node has no model: configure and activate it')
        for place, inquiry in self._inquirer.ask_all(posed, self._settings):
            if isinstance(inquiry, Inquiry):
                for failure in inquiry.answer.failures:
                    self._report(failure.error)
            yield place, inquiry

    def _publish(self, inquiry: Inquiry, waited_ms: float) -> None:
        outputs = self._outputs
        if outputs is None:
            return
        started = time.perf_counter()
        outputs.publish(inquiry.messages)
        published_ms = (time.perf_counter() - started) * 1000
        stages = {'wait': waited_ms, **inquiry.stages, 'publish': published_ms}
        self.statistics.answer(stages, self._age_ms(inquiry.frame))
        try:
            self._publish_extras(outputs, inquiry)
        except UnifiedMLLMError as error:
            self._report(error)

    def _publish_extras(self, outputs: Outputs, inquiry: Inquiry) -> None:
        settings, messages, rgb = self._settings, inquiry.messages, inquiry.rgb
        if settings.publish_overlay and outputs.overlay_wanted:
            boxes = [
                (region.phrase, box)
                for region, box in instances(inquiry.answer.response, settings.min_confidence)
            ]
            drawn = draw(rgb, boxes, messages.labels, messages.response.text)
            jpeg = rgb_to_jpeg(drawn, inquiry.frame.header, settings.overlay_quality)
            outputs.publish_overlay(jpeg)
        if settings.use_depth:
            sight = self._depth.at(inquiry.frame.stamp_ns, settings.depth_tolerance)
            if sight is not None:
                size = (rgb.shape[1], rgb.shape[0])
                outputs.publish_detections_3d(
                    detections_3d_message(messages.detections, size, *sight, messages.labels)
                )

    def _respond(self, response: Any) -> None:
        if self._outputs is not None:
            self._outputs.publish_response(response)

    def _age_ms(self, frame: Frame) -> float | None:
        if not frame.stamp_ns:
            return None
        return (self.get_clock().now().nanoseconds - frame.stamp_ns) / 1e6


def _cleaned(instruction: str) -> str:
    return clean_instruction(instruction) if instruction else ''


def _frame_of(goal: Any) -> Frame | None:
    """Return the image that came with a goal, if any."""
    if goal.compressed_image.data:
        return Frame(goal.compressed_image)
    if goal.image.width or goal.image.height or goal.image.data or goal.image.encoding:
        return Frame(goal.image)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is shut down; return the exit status."""
    return run_node(PerceptionNode, arguments)
