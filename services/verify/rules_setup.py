"""What requests of a cell are checked against, from its settings and its model."""

from dataclasses import replace

from services.verify.requests import RequestRules
from services.verify.settings import VerifyServiceSettings, VerifySettings
from shared.control.policies.exits import parse_exits
from shared.control.policies.methods import parse_methods
from shared.control.policies.static import NAME as STATIC
from shared.model.layer_stack import LayerStack
from shared.speculation.methods.base import DraftMeans
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import LAYERSKIP, OFF, PLAIN_DECISION, Decision


def make_rules(settings: VerifyServiceSettings, stack: LayerStack) -> RequestRules:
    """Return what requests are checked against; the defaults must hold for this model.

    Raises:
        InvalidRequest: the default exit layer or the exits do not fit the model, or the default
            method has no adapter.
    """
    verify, config = settings.verify, stack.config
    exit_layer = verify.exit_layer or max(1, config.num_layers // 4)
    defaults = Decision(verify.method, exit_layer, verify.draft_len, verify.stop_threshold)
    if config.num_layers < 2:
        defaults = PLAIN_DECISION
    else:
        # Checked even where speculation is off by default: a request may turn it on.
        method_named(LAYERSKIP).check(defaults, stack.means)
        if verify.method not in (LAYERSKIP, OFF) and verify.cell_kind != "plain":
            defaults = _method_defaults(verify, defaults, stack.means)
    if verify.cell_kind == "plain":
        defaults = replace(defaults, method=OFF)
    identity = config.identity(settings.model.served_name)
    # Without shedding nothing is planned: sessions do as they or the defaults say.
    policy = verify.policy if verify.sheds else STATIC
    exits = parse_exits(verify.exits, config.num_layers) if config.num_layers > 1 else ()
    return RequestRules(
        identity,
        defaults,
        verify.max_draft_len,
        policy,
        exits,
        stack.means.adapter_layers,
        parse_methods(verify.methods, verify.method, stack.means),
    )


def _method_defaults(verify: VerifySettings, given: Decision, means: DraftMeans) -> Decision:
    """Return the default method's own defaults, where the settings do not name others.

    Raises:
        InvalidRequest: it cannot run so.
    """
    method, named = method_named(verify.method), verify.model_fields_set
    own = method.complete(given, means)
    decision = replace(
        own,
        exit_layer=verify.exit_layer or own.exit_layer,
        max_draft_len=verify.draft_len if "draft_len" in named else own.max_draft_len,
        stop_threshold=given.stop_threshold if "stop_threshold" in named else own.stop_threshold,
    )
    method.check(decision, means)
    return decision
