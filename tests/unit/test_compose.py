"""docker-compose.yml, .env and what they mount agree with the services and with one another."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.draft.settings import DraftServiceSettings
from services.gateway.settings import GatewayServiceSettings
from services.verify.settings import VerifyServiceSettings
from shared.settings import PREFIX, ServiceSettings, SettingsError, load_settings
from tests.compose_file import REPOSITORY, ComposeFile, duration_s, filled_in, size_bytes

CLASSES: dict[str, type[ServiceSettings]] = {
    "gateway": GatewayServiceSettings,
    "verify": VerifyServiceSettings,
    "verify-gpu": VerifyServiceSettings,
    "draft": DraftServiceSettings,
    "draft-gpu": DraftServiceSettings,
}
WORKERS = tuple(name for name in CLASSES if name != "gateway")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")

compose = ComposeFile()
every_service = pytest.mark.parametrize("name", sorted(compose.services))
every_service_of_ours = pytest.mark.parametrize("name", sorted(CLASSES))


def settings_of(name: str) -> Any:
    """Return a service's settings as its container would read them."""
    return load_settings(CLASSES[name], compose.environment(name))


def own_settings_of(name: str) -> Any:
    """Return the group of a service's own name."""
    return getattr(settings_of(name), group_of(name))


def group_of(name: str) -> str:
    """Return the group of a service: `verify` of `verify-gpu`."""
    return name.partition("-")[0]


def port_of(address: str) -> str:
    """Return the port of `host:port`."""
    return address.rpartition(":")[2]


@every_service_of_ours
def test_a_service_takes_its_environment(name: str) -> None:
    settings_of(name)


@every_service_of_ours
def test_a_service_refuses_a_misspelt_option_in_env(name: str) -> None:
    environ = compose.environment(name) | {f"{PREFIX}{group_of(name).upper()}__LISTN": "x"}
    with pytest.raises(SettingsError, match="unknown option"):
        load_settings(CLASSES[name], environ)


def test_options_in_env_are_some_services_and_documented() -> None:
    document = (REPOSITORY / "docs" / "configuration.md").read_text()
    documented = set(re.findall(r"^\| `(SHORTSTACK_\w+)` \|", document, re.MULTILINE))
    known = {
        f"{PREFIX}{group}__{option}".upper()
        for cls in CLASSES.values()
        for group, field in cls.model_fields.items()
        for option in getattr(field.annotation, "model_fields", {})
    }
    options = {name for name in compose.values if name.startswith(PREFIX)}
    assert options
    assert documented == known
    assert options <= known


def test_env_and_the_compose_file_name_the_same_variables() -> None:
    own = {name for name in compose.values if not name.startswith((PREFIX, "COMPOSE_"))}
    assert compose.variables == own


def test_ports_in_env_are_used_once() -> None:
    ports = [text for name, text in compose.values.items() if name.endswith("_PORT")]
    assert len(set(ports)) == len(ports)
    published = [
        entry for service in compose.services.values() for entry in service.get("ports", [])
    ]
    outside = [entry.split(":")[1] for entry in published]
    assert len(set(outside)) == len(outside)
    assert all(entry.startswith(compose.values["BIND_ADDRESS"] + ":") for entry in published)


def test_services_meet_at_the_same_addresses() -> None:
    gateway = settings_of("gateway")
    for verify, draft in (("verify", "draft"), ("verify-gpu", "draft-gpu")):
        worker = settings_of(verify)
        host, _, port = worker.verify.advertise.partition(":")
        assert host in names_on_network(verify, "cells")
        assert port == port_of(worker.verify.listen)
        assert worker.verify.draft_target == settings_of(draft).draft.listen
        assert worker.redis.url == gateway.redis.url
        assert worker.model == settings_of(draft).model
    assert gateway.redis.url == f"redis://redis:{compose.values['REDIS_PORT']}/0"
    assert compose.values["REDIS_PORT"] in compose.services["redis"]["command"]
    assert "cells" in compose.services["redis"]["networks"]


def names_on_network(name: str, network: str) -> set[str]:
    """Return the host names of a service on a network."""
    networks = compose.services[name]["networks"]
    assert network in networks
    aliases = networks[network].get("aliases", []) if isinstance(networks, dict) else []
    return {name, *aliases}


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_the_workers_of_a_cell_share_memory_and_sockets(profile: str) -> None:
    verify, draft = workers_of(profile)
    for worker in (verify, draft):
        assert worker["user"] == "10001:10001"
        assert "cell:/run/shortstack" in worker["volumes"]
    if profile == "cpu":
        assert "shm:/dev/shm" in verify["volumes"] and "shm:/dev/shm" in draft["volumes"]
    else:
        assert (verify["ipc"], verify["shm_size"]) == ("shareable", compose.values["SHM_SIZE"])
        assert (draft["ipc"], draft["pid"]) == ("service:verify-gpu",) * 2
        assert verify["deploy"] == draft["deploy"]
    for name in ("cell", "shm"):
        options = compose.document["volumes"][name]["driver_opts"]
        assert options["type"] == "tmpfs"
        assert {"mode=0700", "uid=10001", "gid=10001"} <= set(options["o"].split(","))


def workers_of(profile: str) -> list[dict[str, Any]]:
    """Return the verify and the draft worker of a profile."""
    found = [compose.services[name] for name in WORKERS]
    return [worker for worker in found if worker["profiles"] == [profile]]


def test_shared_memory_fits_the_verify_workers_bound() -> None:
    values = compose.values
    assert size_bytes(values["SHM_SIZE"]) < size_bytes(values["VERIFY_MEMORY"])
    assert size_bytes(values["REDIS_MAXMEMORY"]) < size_bytes(values["REDIS_MEMORY"])


@every_service_of_ours
def test_the_command_is_a_module_of_the_image(name: str) -> None:
    python, flag, module = compose.command(name)
    assert (python, flag) == ("python", "-m")
    assert importlib.util.find_spec(module) is not None
    assert f"COPY services/{group_of(name)} services/{group_of(name)}" in compose.dockerfile(name)
    assert "command" not in compose.services[name]


@every_service_of_ours
def test_the_health_check_asks_the_port_that_the_service_listens_on(name: str) -> None:
    python, flag, module, target, service = compose.health_command(name)
    assert (python, flag, module) == ("python", "-m", "shared.rpc.probe")
    assert target == own_settings_of(name).listen.replace("0.0.0.0", "127.0.0.1")
    assert service == f"shortstack.v1.{group_of(name).title()}Service"


def test_what_is_waited_for_has_a_health_check() -> None:
    for service in compose.services.values():
        for other, wish in service.get("depends_on", {}).items():
            if wish["condition"] == "service_healthy":
                assert "healthcheck" in compose.services[other]


@every_service
def test_images_are_pinned(name: str) -> None:
    assert PINNED.fullmatch(compose.services[name]["image"])


@every_service_of_ours
def test_base_images_are_those_of_env(name: str) -> None:
    text = compose.dockerfile(name)
    assert PINNED.fullmatch(compose.values["PYTHON_IMAGE"])
    assert re.findall(r"^ARG PYTHON_IMAGE=(.*)$", text, re.MULTILINE) == [
        compose.values["PYTHON_IMAGE"]
    ]
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert set(bases) == {"${PYTHON_IMAGE}"}
    args = compose.services[name]["build"]["args"]
    assert args["PYTHON_IMAGE"] == compose.values["PYTHON_IMAGE"]


def test_the_gateways_image_has_no_torch() -> None:
    text = compose.dockerfile("gateway")
    assert '".[gateway]"' in text and "worker" not in text


@every_service
def test_nothing_runs_as_root_or_writes_to_its_root(name: str) -> None:
    service = compose.services[name]
    assert int(str(service["user"]).partition(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    assert size_bytes(service["mem_limit"]) > 0
    if name in CLASSES:
        assert f"USER {service['user']}\n" in compose.dockerfile(name)


@every_service_of_ours
def test_a_drain_ends_before_the_grace_period(name: str) -> None:
    grace_s = duration_s(compose.services[name]["stop_grace_period"])
    assert own_settings_of(name).drain_timeout_ms / 1000 < grace_s


def test_prometheus_scrapes_every_service_of_ours() -> None:
    config = yaml.safe_load((REPOSITORY / "deploy/prometheus/compose.yml").read_text())
    scraped = {
        target
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }
    for profile in ("cpu", "gpu"):
        names = ["gateway", *(n for n in WORKERS if compose.services[n]["profiles"] == [profile])]
        served = {
            f"{host}:{port_of(own_settings_of(name).metrics_listen)}": host
            for name in names
            for host in names_on_network(name, "signals") & {"gateway", "verify", "draft"}
        }
        assert scraped == set(served)


def test_jobs_are_called_as_in_the_local_stack() -> None:
    jobs = []
    for name in ("compose.yml", "prometheus.yml"):
        config = yaml.safe_load((REPOSITORY / "deploy/prometheus" / name).read_text())
        jobs.append([job["job_name"] for job in config["scrape_configs"]])
        assert config["rule_files"] == ["alerts.yml"]
    assert jobs[0] == jobs[1]


def test_the_collector_listens_where_the_services_would_send() -> None:
    text = (REPOSITORY / "deploy/otel/collector.yml").read_text()
    environment = compose.services["otel-collector"]["environment"]
    config = yaml.safe_load(filled_in(text.replace("${env:", "${"), environment))
    endpoint = config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    # .env says how to switch traces on.
    hint = re.search(r"profile observability: (\S+)", (REPOSITORY / ".env").read_text())
    assert hint is not None and hint[1] == f"otel-collector:{port_of(endpoint)}"
    pipeline = config["service"]["pipelines"]["traces"]
    assert set(pipeline["receivers"]) <= set(config["receivers"])
    assert set(pipeline["processors"]) == set(config["processors"])
    (exporter,) = pipeline["exporters"]
    assert port_of(config["exporters"][exporter]["endpoint"]) == "4317"
    assert config["exporters"][exporter]["endpoint"].partition(":")[0] in compose.services


def test_urls_between_containers_name_services_and_their_ports() -> None:
    for key, text in compose.services["grafana"]["environment"].items():
        if key.endswith("_URL"):
            host, _, port = text.removeprefix("http://").partition(":")
            assert any(entry.endswith(f":{port}") for entry in compose.services[host]["ports"])


@every_service
def test_what_is_mounted_exists(name: str) -> None:
    for volume in compose.services[name].get("volumes", []):
        source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
        if source.startswith("."):
            assert (REPOSITORY / source).exists(), source
        else:
            assert source in compose.document["volumes"]


@every_service
def test_what_another_profile_runs_may_be_missing(name: str) -> None:
    service = compose.services[name]
    for other, wish in service.get("depends_on", {}).items():
        profiles = compose.services[other].get("profiles")
        is_there = not profiles or profiles == service.get("profiles")
        assert is_there or wish.get("required") is False


def test_images_hold_what_their_dockerfiles_copy() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for name in ("gateway", "verify", "draft"):
        for line in re.findall(r"^COPY (?!--from)(.*)$", compose.dockerfile(name), re.MULTILINE):
            for source in line.split()[:-1]:
                assert (REPOSITORY / source).exists()
                assert Path(source).parts[0] in allowed


def test_grafana_finds_the_datasources_that_its_dashboards_and_exemplars_name() -> None:
    folder = REPOSITORY / "deploy" / "grafana"
    metrics = yaml.safe_load((folder / "provisioning/datasources/prometheus.yml").read_text())
    traces = yaml.safe_load((folder / "traces/jaeger.yml").read_text())
    (prometheus,), (jaeger,) = metrics["datasources"], traces["datasources"]
    links = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert [link["datasourceUid"] for link in links] == [jaeger["uid"]]
    environment = compose.services["grafana"]["environment"]
    for source in (prometheus, jaeger):
        assert filled_in(source["url"], environment).startswith("http://")
