"""Settings from a file and the environment: what wins, where it came from, and every fault at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import ConfigFaults, Fault, load, render
from config.settings import Settings
from config.shape import leaf_values

SECRET = "correct-horse-battery"


def write(folder: Path, text: str) -> Path:
    path = folder / "meterd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(folder: Path, text: str, **environ: str) -> list[tuple[str, str, str]]:
    """Faults with the file's folder left out of `where`."""
    with pytest.raises(ConfigFaults) as caught:
        load(write(folder, text), environ)
    return [(f.where.removeprefix(f"{folder}/"), f.key, f.what) for f in caught.value.faults]


def test_environment_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    path = write(tmp_path, 'data_dir = "d"\n\n[mqtt]\nport = 1\nhost = "broker"\n')
    loaded = load(path, {"METERD_MQTT__PORT": "2", "METERD_MQTT__SHARDS": '["a", "b"]', "PATH": "x"})
    assert loaded.settings.data_dir == Path("d")
    assert (loaded.settings.mqtt.host, loaded.settings.mqtt.port) == ("broker", 2)
    assert loaded.settings.mqtt.shards == ("a", "b")
    assert loaded.origins["data_dir"] == f"{path}:1"
    assert loaded.origins["mqtt.host"] == f"{path}:5"
    assert loaded.origins["mqtt.port"] == "environment METERD_MQTT__PORT"
    assert loaded.origins["mqtt.version"] == "default"


def test_every_effective_value_has_an_origin_and_defaults_are_those_of_the_tree() -> None:
    loaded = load(None, {"METERD_DATA_DIR": "d"})
    assert loaded.settings == Settings(data_dir=Path("d"))
    assert set(loaded.origins) == {".".join(key) for key, _ in leaf_values(loaded.settings)}
    assert {key for key, origin in loaded.origins.items() if origin != "default"} == {"data_dir"}
    assert len(loaded.origins) > 60


def test_a_gateway_may_be_all_environment() -> None:
    loaded = load(
        None,
        {
            "METERD_DATA_DIR": "d",
            "METERD_GATEWAYS__DEMO__URL": "http://127.0.0.1:1/",
            "METERD_GATEWAYS__DEMO__SECRET": SECRET,
        },
    )
    assert loaded.settings.gateways["demo"].secret.get_secret_value() == SECRET
    assert loaded.origins["gateways.demo.deadline_real_s"] == "default"


def test_all_faults_come_at_once_with_file_line_or_variable_and_key(tmp_path: Path) -> None:
    text = """\
data_dir = "d"
partitions = true
mqtt = {port = 99999, host = "h"}
bogus = 1

[notices]
webhook_url = "http://h/"   # and no secret: a rule across keys
[rating]
horizon_from_year = 2050    # another one
[log]
group_max = 0
size_max_bytes = "9"
[nosuch]
a = 1
b = 2
[gateways.demo]
url = "http://g"
"""
    environ = {
        "METERD_X": "1",
        "METERD_LOG": "q",
        "METERD_HTTP__PORT": "abc",
        "METERD_MQTT__SHARDS": "a,b",
        "METERD_KILL_AT": "ack.sent",
        "METERD_CONFIG": "elsewhere.toml",
    }
    assert [fault[:2] for fault in faults_of(tmp_path, text, **environ)] == [
        ("meterd.toml:2", "partitions"),
        ("meterd.toml:3", "mqtt.port"),
        ("meterd.toml:4", "bogus"),
        ("meterd.toml:6", "notices.webhook_secret"),
        ("meterd.toml:9", "rating.horizon_from_year"),
        ("meterd.toml:11", "log.group_max"),
        ("meterd.toml:12", "log.size_max_bytes"),
        ("meterd.toml:13", "nosuch"),
        ("meterd.toml:16", "gateways.demo.secret"),
        ("environment METERD_LOG", "log"),
        ("environment METERD_MQTT__SHARDS", "mqtt.shards"),
        ("environment METERD_X", "x"),
        ("environment METERD_HTTP__PORT", "http.port"),
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("partitions = true", "partitions"),
        ('partitions = "16"', "partitions"),
        ("partitions = 1.5", "partitions"),
        ("partitions = 0", "partitions"),
        ("log_json = 1.5", "log_json"),
        ('log_json = "true"', "log_json"),
        ("mqtt = 5", "mqtt"),
        ("mqtt = []", "mqtt"),
        ("[[mqtt]]\nport = 1", "mqtt"),
        ("partitions = {a = 1}", "partitions"),
        ("mqtt.shards = 'a'", "mqtt.shards"),
        ("mqtt.shards = []", "mqtt.shards"),
        ("ledger.checkpoint_busy_real_s = inf", "ledger.checkpoint_busy_real_s"),
        ("ledger.checkpoint_busy_real_s = nan", "ledger.checkpoint_busy_real_s"),
        ("ledger.checkpoints_keep_s = -1", "ledger.checkpoints_keep_s"),
        ("notices.attempts_max = 0", "notices.attempts_max"),
        ("http.host = '0.0.0.0'", "http.host"),
        ("gateways.demo = 1", "gateways.demo"),
        ("gateways = 1", "gateways"),
        ("'mqtt.port' = 1", "mqtt.port"),
        ("timezone = 'Asia/Shangai'", "timezone"),
        ("timezone = 'Asia'", "timezone"),
        ("timezone = '../etc/passwd'", "timezone"),
        ("mqtt.shards = ['a b']", "mqtt.shards"),
        ("mqtt.port = 65535", "mqtt.port"),
        ("mqtt.port = 9000\nhttp.port = 9001", "http.port"),
        ("gateways.g = {url = 'ftp://h', secret = 's'}", "gateways.g.url"),
        ("gateways.g = {url = 'http://', secret = 's'}", "gateways.g.url"),
        ("gateways.g = {url = 'http://h', secret = ''}", "gateways.g.secret"),
        ("gateways.'a b' = {url = 'http://h', secret = 's'}", "gateways"),
        ("notices = {webhook_url = 'h', webhook_secret = 's'}", "notices.webhook_url"),
        ("notices = {webhook_url = 'http://h', webhook_secret = ''}", "notices.webhook_secret"),
        ("Partitions = 1", "Partitions"),
    ],
)
def test_a_wrong_value_is_one_fault_on_its_line(text: str, key: str, tmp_path: Path) -> None:
    found = faults_of(tmp_path, f"data_dir = 'd'\n{text}\n")
    assert len(found) == 1, found
    assert (found[0][0][: len("meterd.toml:")], found[0][1]) == ("meterd.toml:", key)


def test_another_broker_s_port_is_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, "data_dir = 'd'\nmqtt = {embedded = false, port = 65535}\nhttp.port = 65535\n")
    assert load(path, {}).settings.mqtt.port == 65535


@pytest.mark.parametrize("text", ["inf", "NaN", "-Infinity", "true", "", "0"])
def test_a_deadline_from_the_environment_is_a_finite_number(text: str, tmp_path: Path) -> None:
    found = faults_of(tmp_path, "data_dir = 'd'", METERD_HTTP__DEADLINE_REAL_S=text)
    assert [fault[:2] for fault in found] == [("environment METERD_HTTP__DEADLINE_REAL_S", "http.deadline_real_s")]


@pytest.mark.parametrize(
    ("body", "where", "what"),
    [
        (b"a = \n", "meterd.toml:1", "is not TOML"),
        (b"a = 1\n\n[b\n", "meterd.toml:3", "is not TOML"),
        (b"a = 1\na = 2\n", "meterd.toml:2", "is not TOML"),
        (b"a = '\xff'\n", "meterd.toml", "is not UTF-8 at byte 5"),
        (b"\xef\xbb\xbfa = 1\n", "meterd.toml:1", "is not TOML"),
        (b"a = " + b"[" * 100_000, "meterd.toml", ""),
        (b"a = " + b"9" * 5000 + b"\n", "meterd.toml", "is not TOML"),
        (b"#" * ((1 << 20) + 1), "meterd.toml", "longer than"),
    ],
)
def test_a_file_that_is_no_toml_is_one_fault(body: bytes, where: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "meterd.toml"
    path.write_bytes(body)
    with pytest.raises(ConfigFaults) as caught:
        load(path, {"METERD_X": "1"})
    assert len(caught.value.faults) == 2
    first, second = caught.value.faults
    assert first.where.removeprefix(f"{tmp_path}/") == where
    assert what in first.what
    assert second.where == "environment METERD_X"


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_a_fault(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigFaults) as caught:
        load(tmp_path / name, {})
    assert [fault.key for fault in caught.value.faults] == [""]
    assert "cannot be read" in caught.value.faults[0].what


def test_a_missing_required_key_names_the_file(tmp_path: Path) -> None:
    assert [fault[:2] for fault in faults_of(tmp_path, "partitions = 4")] == [("meterd.toml", "data_dir")]
    with pytest.raises(ConfigFaults) as caught:
        load(None, {})
    assert [fault[:2] for fault in caught.value.faults] == [("environment", "data_dir")]


SECRET_PLACES = [
    "mqtt.password = 'S'",
    "mqtt.password = ['S']",
    "mqtt.password = {a = 'S'}",
    "mqtt.pasword = 'S'",
    "mqtt = 'S'",
    "mqtt = ['S']",
    "gateways = 'S'",
    "gateways.demo = 'S'",
    "gateways.demo = {secret = 'S'}",
    "gateways.demo = {url = 'http://u:S@h/', secret = 'S', deadline_real_s = 'S'}",
    "gateways.demo = {url = 'http://h/', secret = ['S', 1]}",
    "gateways.demo = {url = 'http://h/', secret = 'file:S'}",
    "gateways.demo = {url = 'http://h/', secret = 'S', webhook = 'S'}",
    "notices.apprise_urls = 'S'",
    "notices.apprise_urls = ['S', 1]",
    "notices.apprise_urls = ['file:S']",
    "notices.webhook_secret = 'S'\nnotices.webhook_secret = 'S'",
    "mqtt.password = 'S' 'S'",
    "mqtt.password = S",
]


@pytest.mark.parametrize("text", SECRET_PLACES)
def test_no_fault_shows_a_secret(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"data_dir = 'd'\npartitions = 0\n{text.replace('S', SECRET)}\n")
    with pytest.raises(ConfigFaults) as caught:
        load(path, {"METERD_GATEWAYS__X__SECRET": SECRET, "METERD_MQTT__PASWORD": SECRET})
    shown = f"{caught.value} {caught.value!r} {caught.value.args} {caught.value.faults}"
    assert SECRET not in shown
    assert "partitions" in shown or "is not TOML" in shown
    # a pydantic error in the chain would print its input with the traceback
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_no_rendering_shows_a_secret(tmp_path: Path) -> None:
    text = f"""\
data_dir = "d"
[mqtt]
password = "{SECRET}"
[notices]
webhook_url = "https://user:{SECRET}@host/path"
webhook_secret = "{SECRET}"
apprise_urls = ["mailto://u:{SECRET}@host", "{SECRET}"]
[gateways.demo]
url = "http://{SECRET}@host/"
secret = "{SECRET}"
"""
    loaded = load(write(tmp_path, text), {})
    assert loaded.settings.gateways["demo"].secret.get_secret_value() == SECRET
    rows = {key: (value, origin) for key, value, origin in render(loaded)}
    assert SECRET not in f"{rows} {loaded} {loaded!r}".replace(str(loaded.settings.notices.webhook_url), "").replace(
        loaded.settings.gateways["demo"].url, ""
    )
    assert rows["mqtt.password"] == ("********", f"{tmp_path}/meterd.toml:3")
    assert rows["notices.apprise_urls"][0] == '["********", "********"]'
    assert rows["notices.webhook_url"][0] == "https://********@host/path"
    assert rows["log_json"] == ("false", "default")
    assert rows["mqtt.username"] == ("", "default")
    assert rows["autopay.retry_after_s"][0] == "[3600, 21600, 86400]"


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "gateway.key").write_text(f"{SECRET}\n")
    (tmp_path / "urls").write_text("json://host")
    text = "data_dir = 'd'\nnotices.apprise_urls = ['file:urls']\nmqtt.username = 'file:kept'\n"
    loaded = load(
        write(tmp_path, text),
        {"METERD_GATEWAYS__DEMO__URL": "http://h/", "METERD_GATEWAYS__DEMO__SECRET": "file:gateway.key"},
    )
    assert loaded.settings.gateways["demo"].secret.get_secret_value() == SECRET
    assert loaded.settings.notices.apprise_urls[0].get_secret_value() == "json://host"
    assert loaded.settings.mqtt.username == "file:kept"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"x" * 70_000, "too long"),
        (b"\xff\xfe", "as text"),
    ],
)
def test_a_secret_file_that_is_no_good_is_a_fault(body: bytes | None, what: str, tmp_path: Path) -> None:
    if body is not None:
        (tmp_path / "key").write_bytes(body)
    found = faults_of(tmp_path, "data_dir = 'd'\nmqtt.password = 'file:key'\n")
    assert [fault[:2] for fault in found] == [("meterd.toml:2", "mqtt.password")]
    assert what in found[0][2]


def test_the_environment_does_not_mend_a_section_that_is_a_value(tmp_path: Path) -> None:
    found = faults_of(tmp_path, "data_dir = 'd'\nmqtt = 5\n", METERD_MQTT__PORT="1")
    assert [fault[:2] for fault in found] == [("meterd.toml:2", "mqtt")]


def test_a_fault_reads_as_one_line() -> None:
    assert str(Fault("a.toml:3", "mqtt.port", "no")) == "a.toml:3: mqtt.port: no"
    assert str(Fault("a.toml", "", "no")) == "a.toml: no"


@given(st.text(max_size=60))
def test_any_text_is_settings_or_faults(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "replace"))
    with pytest.raises(ConfigFaults):  # data_dir is missing at least
        load(path, {})


@given(
    st.dictionaries(
        st.sampled_from(["METERD_MQTT__PORT", "METERD_MQTT__SHARDS", "METERD_LOG__GROUP_MAX", "METERD_", "METERD___"])
        | st.text(max_size=8).map(lambda name: f"METERD_{name}"),
        st.text(max_size=12),
        max_size=4,
    )
)
def test_any_environment_is_settings_or_faults(environ: dict[str, str]) -> None:
    wheres = {f"environment {name}" for name in environ}
    try:
        loaded = load(None, {"METERD_DATA_DIR": "d", **environ})
    except ConfigFaults as error:
        shown = {fault.where for fault in error.faults}
    else:
        shown = {origin for origin in loaded.origins.values() if origin != "default"}
    assert shown
    assert shown <= wheres | {"environment METERD_DATA_DIR", "environment"}


# -- signing keys --------------------------------------------------------------------------------------------------

KEY, OTHER_KEY = "0123456789abcdef" * 4, "FEDCBA98" * 4


def signing_faults(folder: Path, text: str, keys: str) -> list[tuple[str, str, str]]:
    (folder / "keys.toml").write_text(keys, encoding="utf-8")
    return faults_of(folder, f"data_dir = 'd'\n{text}\n")


def test_signing_keys_come_from_a_file_and_from_the_table_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(f'C1 = "{KEY}"\n\n"C.2" = "{OTHER_KEY}"\n')
    (tmp_path / "C3").write_text(f"{KEY}\n")
    text = 'data_dir = "d"\n[signing]\nrequired = true\nkeys_file = "keys.toml"\nkeys.C3 = "file:C3"\n'
    loaded = load(write(tmp_path, text), {"METERD_SIGNING__KEYS__C4": OTHER_KEY})
    signing = loaded.settings.signing
    one, two = bytes.fromhex(KEY), bytes.fromhex(OTHER_KEY)
    assert signing.key_bytes() == {"C1": one, "C.2": two, "C3": one, "c4": two}
    assert signing.required
    assert loaded.origins["signing.keys.C1"] == f"{tmp_path}/keys.toml:1"
    assert loaded.origins["signing.keys.C.2"] == f"{tmp_path}/keys.toml:3"
    assert loaded.origins["signing.keys.C3"] == f"{tmp_path}/meterd.toml:5"
    shown = f"{render(loaded)} {loaded!r} {signing!r} {loaded.settings.model_dump_json()}".lower()
    assert KEY[:8] not in shown
    assert OTHER_KEY[:8].lower() not in shown
    assert Settings(data_dir=Path("d")).signing.key_bytes() == {}


def test_every_fault_of_the_keys_file_comes_at_once_with_the_others_and_without_the_key(tmp_path: Path) -> None:
    keys = f"""\
C1 = "{KEY}"
C2 = "{KEY[:-1]}"
C3 = "{KEY} "
C4 = "{KEY[:30]}"
C5 = "{KEY * 3}"
"C 6" = "{KEY}"
C7 = true
C8 = ["{KEY}"]
C.9 = "{KEY}"
"""
    text = f"bogus = 1\n[signing]\nkeys_file = 'keys.toml'\nsecret = '{KEY}'\nkeys.C1 = '{KEY}'"
    found = signing_faults(tmp_path, text, keys)
    assert [fault[:2] for fault in found] == [
        ("keys.toml:1", "signing.keys.C1"),
        ("keys.toml:2", "signing.keys.C2"),
        ("keys.toml:3", "signing.keys.C3"),
        ("keys.toml:4", "signing.keys.C4"),
        ("keys.toml:5", "signing.keys.C5"),
        ("keys.toml:6", "signing.keys.C 6"),
        ("keys.toml:7", "signing.keys.C7"),
        ("keys.toml:8", "signing.keys.C8"),
        ("keys.toml:9", "signing.keys.C"),
        ("meterd.toml:2", "bogus"),
        ("meterd.toml:5", "signing.secret"),
    ]
    assert KEY[:8] not in str(found)
    assert f"{tmp_path}/meterd.toml:6" in found[0][2]


@pytest.mark.parametrize(
    ("text", "keys", "where", "key"),
    [
        ("signing.keys_file = 'none.toml'", "", "none.toml", "signing.keys"),
        ("signing.keys_file = 'keys.toml'", "C1 = ", "keys.toml", "signing.keys"),
        ("signing.keys_file = 7", "", "meterd.toml:2", "signing.keys_file"),
        ("signing.keys = 'S'", "", "meterd.toml:2", "signing.keys"),
        ("signing = 'S'", "", "meterd.toml:2", "signing"),
        ("signing.required = true", "", "meterd.toml:2", "signing.required"),
        (f"signing.keys.C1 = '{KEY}'\nmqtt.version = '3.1.1'", "", "meterd.toml:3", "mqtt.version"),
    ],
)
def test_signing_that_cannot_be(text: str, keys: str, where: str, key: str, tmp_path: Path) -> None:
    assert [fault[:2] for fault in signing_faults(tmp_path, text, keys)] == [(where, key)]
