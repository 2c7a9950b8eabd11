"""Pure: the one settings tree, frozen and typed; every default is here with its reason.

Reading files and the environment is `config.load`; only the composition root (`meterd`) calls it. Durations end
in `_s` and are business seconds (they run with the clock that is passed in) unless the name ends in
`_real_s`: those are deadlines on sockets, disks and threads.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
SHARD: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)  # a level of a topic
GATEWAY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)  # a level of a webhook's path, part of a key here
LocalTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
ConcentratorId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]  # as in topics (docs/wire.md)
_HEX_KEY: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){16,64}")


def _hex_key(value: SecretStr) -> SecretStr:
    """A key as both sides must have it: digits, not text that each side may turn into bytes of its own."""
    if not _HEX_KEY.fullmatch(value.get_secret_value()):
        raise ValueError("wants 32 to 128 hexadecimal digits (16 to 64 bytes)")
    return value


SigningKey = Annotated[SecretStr, AfterValidator(_hex_key)]


class Section(BaseModel):
    """Frozen, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ClockSettings(Section):
    """Which clock the daemon lives by."""

    kind: Literal["real", "scaled"] = "real"
    origin_unix: float = 0.0  # scaled: machine time at which business time is `start_s`
    start_s: NonNegative = 0
    factor: Annotated[float, Field(gt=0)] = 1.0


class MqttSettings(Section):
    """The broker, embedded or not, and the sessions that ingest keeps with it."""

    embedded: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 1883  # embedded: 0 picks a free one
    version: Literal["3.1.1", "5"] = "5"
    shards: Annotated[tuple[str, ...], Field(min_length=1, max_length=256)] = ("0",)
    client_id_prefix: str = "meterd-ingest"
    username: str | None = None
    password: SecretStr | None = None
    keepalive_real_s: Positive = 30
    inflight_max: Annotated[int, Field(gt=0, le=65535)] = 1000
    payload_max: Positive = 1 << 20  # iotcore's own default is 20 kB
    queue_max: Positive = 4000  # messages between network thread and decoder; then the socket waits
    watchdog_real_s: Seconds = 30.0  # a network thread silent for longer is restarted


class LogSettings(Section):
    """The reading log on SQLite."""

    group_max: Positive = 256  # messages made durable together
    size_max_bytes: Positive = 32 << 30  # then back-pressure: stop reading from the broker
    tail_max_bytes: Positive = 64 << 20  # durable records also kept in memory for rating
    busy_timeout_real_s: Seconds = 10.0


class IngestSettings(Section):
    """Bounds on what comes in, and the talk with concentrators."""

    readings_max: Positive = 20_000  # per message
    nesting_max: Positive = 16
    tick_interval_s: Positive = 60
    held_interval_real_s: Seconds = 0.2
    resend_after_s: Positive = 60
    resend_times: Positive = 5  # then the gap is declared lost
    leap_max: Annotated[int, Field(gt=0, lt=2**53)] = 100_000  # numbers ahead of the highest that came; then refused
    streams_per_concentrator_max: Positive = 16  # beyond these three a message is taken and its number is not noted
    streams_max: Positive = 65_536  # in all; concentrators of the registry may begin more. 0.5 kB of memory each
    clock_leap_max_real_s: Seconds = 6 * 3600.0  # business time against the monotonic clock, while running
    clock_behind_max_real_s: Seconds = 3600.0  # at a start, against the log's newest record
    clock_ahead_max_real_s: Seconds = 35 * 86_400.0  # the same: a daemon may have been off for a month
    gaps_max: Positive = 65_536  # in all, 256 for one stream. 0.3 kB of memory each


class SigningSettings(Section):
    """HMAC keys agreed with concentrators: a message of one that has a key here must bear its signature."""

    required: bool = False  # true: a concentrator without a key here is not believed either
    keys_file: Path | None = None  # lines of `concentrator = "key"`, beside the settings file; joins `keys`
    keys: dict[ConcentratorId, SigningKey] = {}

    def key_bytes(self) -> dict[str, bytes]:
        """The keys as HMAC takes them."""
        return {name: bytes.fromhex(key.get_secret_value()) for name, key in self.keys.items()}


class ArchiveSettings(Section):
    """Immutable Parquet files beside the log."""

    records_per_file: Positive = 4096
    age_max_s: Positive = 3600  # write a smaller file rather than wait longer
    prune_log: bool = True
    keep_records: NonNegative = 1024  # kept in the log below min(ledger, archive), for people who look


class RatingSettings(Section):
    """Verdicts and closes."""

    settlement_window_s: NonNegative = 3 * 86_400  # concentrators re-read three days every night
    future_tolerance_s: NonNegative = 300
    plausible_window_s: Positive = 3 * 86_400  # "60 vacant days x 13.2 kW would allow 19,008 kWh": cap it
    frozen_after_s: Positive = 30 * 86_400
    prolonged_estimates: Positive = 96
    horizon_from_year: int = 2020
    horizon_to_year: int = 2040  # exclusive
    tariffs_dir: Path | None = None  # None: the tariffs that meterd ships
    batch_records_max: Positive = 512


class LedgerSettings(Section):
    """Checkpoints and pages."""

    checkpoint_idle_real_s: Seconds = 0.025
    checkpoint_busy_real_s: Seconds = 1.0
    delta_bytes_max: Positive = 64 << 20  # per partition; beyond it dirty pages are rewritten whole
    checkpoints_keep_s: NonNegative = 2 * 86_400  # then one row an hour, a kilobyte each; 0: all of them, for ever
    write_deadline_real_s: Seconds = 60.0
    queue_max: Positive = 64


class AutopaySettings(Section):
    """When and how much; a mandate may be stricter, never looser."""

    enabled: bool = True
    alert_fen: int = 3000
    trigger_fen: int = 2000
    amount_fen: Positive = 10_000
    hysteresis_fen: NonNegative = 100
    cooldown_s: NonNegative = 86_400
    cap_charge_fen: Positive = 10_000  # Alipay periodic deduction: at most 100 yuan each
    cap_day_fen: Positive = 100_000
    cap_month_fen: Positive = 50_000
    cap_day_count: Positive = 5
    failures_max: Positive = 3
    retry_after_s: tuple[int, ...] = (3600, 6 * 3600, 24 * 3600)  # after a definite decline
    ask_after_s: tuple[int, ...] = (30, 60, 300, 900, 3600)  # for an unknown outcome; the last one repeats
    failures_rest_s: Positive = 7 * 86_400  # after `failures_max` declines: then one more try each such time
    recheck_s: Positive = 900  # how often the live balance is looked at while a trigger lies below it
    person_after_s: Positive = 3 * 86_400  # unknown for longer than that: a person
    breaker_charges_per_hour: Positive = 100_000  # fleet-wide


class GatewaySettings(Section):
    """One payment gateway."""

    url: str
    secret: SecretStr
    deadline_real_s: Seconds = 5.0
    key_lifetime_s: Positive = 86_400  # after it the same key is a new charge: only asking is left
    settlement_horizon_s: Positive = 7200  # "not found" is no decline before it


class NoticeSettings(Section):
    """Where messages to people go."""

    file: Path | None = None  # relative to data_dir
    webhook_url: str | None = None
    webhook_secret: SecretStr | None = None
    apprise_urls: tuple[SecretStr, ...] = ()
    language: Literal["zh", "en"] = "zh"
    deadline_real_s: Seconds = 5.0
    attempts_max: Positive = 10
    retry_after_s: tuple[int, ...] = (10, 60, 600, 3600)


class HttpSettings(Section):
    """Health, metrics, webhooks and the CLI's writes; loopback only."""

    host: Literal["127.0.0.1", "::1"] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8380
    body_max: Positive = 1 << 20
    deadline_real_s: Seconds = 30.0


class Settings(Section):
    """The whole tree. `config.load.load(path, environ)` makes one and says where each value came from."""

    data_dir: Path
    timezone: str = "Asia/Shanghai"
    currency: Literal["CNY", "USD", "EUR"] = "CNY"
    partitions: Annotated[int, Field(gt=0, le=1024)] = 16
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False
    clock: ClockSettings = ClockSettings()
    mqtt: MqttSettings = MqttSettings()
    log: LogSettings = LogSettings()
    ingest: IngestSettings = IngestSettings()
    signing: SigningSettings = SigningSettings()
    archive: ArchiveSettings = ArchiveSettings()
    rating: RatingSettings = RatingSettings()
    ledger: LedgerSettings = LedgerSettings()
    autopay: AutopaySettings = AutopaySettings()
    gateways: dict[str, GatewaySettings] = {}
    notices: NoticeSettings = NoticeSettings()
    http: HttpSettings = HttpSettings()

    @model_validator(mode="after")
    def _coherent(self) -> Settings:
        faults: list[str] = []  # one a line, each "dotted.key what": config.load reports them all
        if self.notices.webhook_url is not None and self.notices.webhook_secret is None:
            faults.append("notices.webhook_secret is required with notices.webhook_url")
        if self.rating.horizon_from_year >= self.rating.horizon_to_year:
            faults.append("rating.horizon_from_year must be before rating.horizon_to_year")
        if not _is_zone(self.timezone):
            faults.append(f"timezone {self.timezone!r} is not known; an IANA name is wanted, such as Asia/Shanghai")
        faults += _gateway_faults(self.gateways)
        if self.notices.webhook_url is not None and not _is_http(self.notices.webhook_url):
            faults.append("notices.webhook_url must begin with http:// or https:// and name a host")
        if self.notices.webhook_secret is not None and not self.notices.webhook_secret.get_secret_value():
            faults.append("notices.webhook_secret must not be empty")
        faults += _port_faults(self.mqtt, self.http)
        if self.signing.required and not self.signing.keys:
            faults.append("signing.required refuses everybody while there are no signing.keys")
        if self.signing.keys and self.mqtt.version != "5":
            faults.append("mqtt.version must be 5 with signing.keys: MQTT 3.1.1 carries no signature")
        if faults:
            raise ValueError("\n".join(faults))
        return self


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of the database, such as "Asia"
        return False
    return True


def _is_http(url: str) -> bool:
    return re.match(r"https?://[^/\s]+", url) is not None


def _gateway_faults(gateways: dict[str, GatewaySettings]) -> list[str]:
    faults = []
    for name, gateway in gateways.items():
        if GATEWAY.fullmatch(name) is None:
            faults.append(f"gateways has the name {name!r}; a name is 1 to 64 of A-Z a-z 0-9 _ -")
            continue
        if not _is_http(gateway.url):
            faults.append(f"gateways.{name}.url must begin with http:// or https:// and name a host")
        if not gateway.secret.get_secret_value():  # anybody could sign webhooks with it
            faults.append(f"gateways.{name}.secret must not be empty")
    return faults


def _port_faults(mqtt: MqttSettings, http: HttpSettings) -> list[str]:
    faults = []
    if not all(SHARD.fullmatch(shard) for shard in mqtt.shards):
        faults.append("mqtt.shards are 1 to 64 of A-Z a-z 0-9 . _ - each")
    if mqtt.embedded and mqtt.port:
        if mqtt.port == 65535:
            faults.append("mqtt.port must leave room for the port after it, where the other MQTT version listens")
        if http.port in (mqtt.port, mqtt.port + 1):
            faults.append("http.port is one of the two that the embedded broker listens on: mqtt.port and the next")
    return faults


class Paths:
    """Where the daemon keeps what, below data_dir; the auditor and the CLI use the same names."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir
        self.log = data_dir / "log.db"
        self.ledger = data_dir / "ledger.db"
        self.unfinished_ledger = data_dir / "ledger.db.part"  # of a restore that has not ended: nobody starts
        self.archive = data_dir / "archive"  # {partition}/{first}-{last}.parquet
        self.registry = data_dir / "registry"  # {digest}/*.parquet and image/*.npy
        self.lock = data_dir / "meterd.lock"  # held by the running daemon
        self.clock_leap = data_dir / "clock-leap.json"  # left by a daemon that ended because its clock leapt
        self.endpoint = data_dir / "endpoint.json"  # http port, mqtt port, token, pid; mode 0600
