"""Where judgements are kept: SQLite by default, PostgreSQL by URL. What was acknowledged is on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    create_engine,
    event,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from assay.errors import ConfigError
from assay.serving.judging.pairs import Pair
from assay.serving.problems import Conflict, NotThere

#: How much better: 3 much, 2 better, 1 slightly, 0 a tie; negative: the second one.
STRONGEST = 3

_TABLES = MetaData()
PAIRS = Table(
    "assay_pairs",
    _TABLES,
    Column("id", String(200), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("a", Text, nullable=False),
    Column("b", Text, nullable=False),
)
JUDGEMENTS = Table(
    "assay_judgements",
    _TABLES,
    Column("token", String(64), primary_key=True),
    Column("pair", String(200), ForeignKey("assay_pairs.id"), nullable=False),
    Column("annotator", String(100), nullable=False),
    Column("strength", Integer),  # null: passed over
    Column("turned", Boolean, nullable=False),
    Column("seconds", Float),
    Column("at", String(40), nullable=False),
    Column("undone_at", String(40)),
)
# one standing judgement for each annotator and pair, whatever arrives twice
Index(
    "assay_one_standing",
    JUDGEMENTS.c.pair,
    JUDGEMENTS.c.annotator,
    unique=True,
    sqlite_where=JUDGEMENTS.c.undone_at.is_(None),
    postgresql_where=JUDGEMENTS.c.undone_at.is_(None),
)
Index("assay_of_annotator", JUDGEMENTS.c.annotator, JUDGEMENTS.c.at)
_STANDING = JUDGEMENTS.c.undone_at.is_(None)


@dataclass(frozen=True)
class Judgement:
    """What one annotator says of one pair.

    Attributes
    ----------
    token
        Made by the client, so that a judgement that is sent again counts once; at most 64 characters.
    pair
        Its id.
    annotator
        A name.
    strength
        From -3 (b much better) to 3 (a much better), 0: a tie; None: passed over.
    turned
        Whether b was shown first.
    seconds
        How long it took.
    """

    token: str
    pair: str
    annotator: str
    strength: int | None
    turned: bool = False
    seconds: float | None = None


class JudgementStore:
    """Keeps pairs and judgements. Every change is one transaction, and is on disk when a method returns.

    Parameters
    ----------
    place
        A file, or an address that SQLAlchemy reads (``postgresql+psycopg://user:password@host/name``).
    timeout_s
        Seconds that a database may take to answer at first.

    Raises
    ------
    ConfigError
        If it cannot be reached, or what it needs is not installed.
    """

    def __init__(self, place: str, timeout_s: float = 10.0) -> None:
        self.shown = _without_password(place)
        self._engine = _engine(place, timeout_s)
        try:
            _TABLES.create_all(self._engine)
        except SQLAlchemyError as error:
            raise _unreachable(place, error) from error

    def bring(self, pairs: Sequence[Pair], shared: float = 0.0) -> int:
        """Add pairs that are not there yet, behind those that are; return how many there are in all.

        Of every ``1 / shared`` pairs the first one is shared: every annotator judges it.

        Raises
        ------
        ConfigError
            If the database does not take them.
        """
        try:
            return self._bring(pairs, shared)
        except SQLAlchemyError as error:
            raise _unreachable(self.shown, error) from error

    def _bring(self, pairs: Sequence[Pair], shared: float) -> int:
        with self._engine.begin() as connection:
            known = set(connection.scalars(select(PAIRS.c.id)))
            last = connection.scalar(select(func.max(PAIRS.c.position)))
            start = 0 if last is None else last + 1
            new = [pair for pair in pairs if pair.id not in known]
            rows = [
                {
                    "id": pair.id,
                    "position": start + k,
                    "shared": int((start + k) * shared) != int((start + k - 1) * shared) or start + k == 0 < shared,
                    "prompt": json.dumps(pair.prompt, ensure_ascii=False),
                    "a": pair.a.replace("\0", "\ufffd"),  # which PostgreSQL does not keep
                    "b": pair.b.replace("\0", "\ufffd"),
                }
                for k, pair in enumerate(new)
            ]
            if rows:
                connection.execute(insert(PAIRS), rows)
        return len(known) + len(new)

    def record(self, judgement: Judgement) -> bool:
        """Keep a judgement; return whether it is new. One that came before, with the same token, changes nothing.

        Raises
        ------
        NotThere
            If there is no such pair.
        Conflict
            If the annotator's judgement of this pair stands already, or the token was used for another.
        """
        values = {**vars(judgement), "at": _now()}
        try:
            with self._engine.begin() as connection:
                if connection.scalar(select(PAIRS.c.id).where(PAIRS.c.id == judgement.pair)) is None:
                    raise NotThere("there is no such pair", where=judgement.pair)
                connection.execute(insert(JUDGEMENTS).values(values))
        except IntegrityError:
            return self._came_before(judgement)
        return True

    def _came_before(self, judgement: Judgement) -> bool:
        """Return False where this very judgement was kept before, and refuse any other."""
        with self._engine.connect() as connection:
            row = connection.execute(select(JUDGEMENTS).where(JUDGEMENTS.c.token == judgement.token)).first()
            same = row is not None and (row.pair, row.annotator, row.strength) == (
                judgement.pair,
                judgement.annotator,
                judgement.strength,
            )
            if same:
                return False
            own = JUDGEMENTS.c.pair == judgement.pair, JUDGEMENTS.c.annotator == judgement.annotator
            stands = connection.execute(select(JUDGEMENTS).where(*own, _STANDING)).first()
        raise Conflict(
            "this annotator has judged this pair already" if stands else "another judgement has this token",
            where=judgement.pair,
            got=None if stands is None else f"strength {stands.strength}",
            remedy="undo that judgement first, or send a new token",
        )

    def undo(self, token: str, annotator: str) -> bool:
        """Withdraw a judgement; return whether it stood until now. It is kept, and no longer counts.

        Raises
        ------
        NotThere
            If the annotator gave no such judgement.
        """
        own = JUDGEMENTS.c.token == token, JUDGEMENTS.c.annotator == annotator
        with self._engine.begin() as connection:
            done = connection.execute(update(JUDGEMENTS).where(*own, _STANDING).values(undone_at=_now()))
            if done.rowcount:
                return True
            if connection.scalar(select(JUDGEMENTS.c.token).where(*own)) is None:
                raise NotThere("there is no such judgement by this annotator", where=token)
        return False

    def next_pair(self, annotator: str, votes: int, held: Sequence[str] = ()) -> Pair | None:
        """Return the next pair for an annotator.

        It is not judged by him, nor, unless it is shared, often enough by others, or held by one of them.
        """
        here = JUDGEMENTS.c.pair == PAIRS.c.id
        judged = exists().where(here, _STANDING, JUDGEMENTS.c.annotator == annotator)
        counted = (
            select(func.count())
            .where(here, _STANDING, JUDGEMENTS.c.strength.is_not(None))
            .correlate(PAIRS)
            .scalar_subquery()
        )
        wanted = and_(counted < votes, PAIRS.c.id.not_in(held))
        query = select(PAIRS).where(~judged, or_(PAIRS.c.shared, wanted)).order_by(PAIRS.c.position).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else _pair(row)

    def shared(self) -> list[str]:
        """Return the ids of the pairs that every annotator judges."""
        with self._engine.connect() as connection:
            return list(connection.scalars(select(PAIRS.c.id).where(PAIRS.c.shared).order_by(PAIRS.c.position)))

    def last_of(self, annotator: str) -> str | None:
        """Return the token of an annotator's last standing judgement."""
        query = select(JUDGEMENTS.c.token).where(JUDGEMENTS.c.annotator == annotator, _STANDING)
        with self._engine.connect() as connection:
            return connection.scalar(query.order_by(JUDGEMENTS.c.at.desc(), JUDGEMENTS.c.token.desc()).limit(1))

    def counts(self) -> dict[str, Any]:
        """Return how many pairs there are, how often they were judged, and by whom."""
        decided = JUDGEMENTS.c.strength.is_not(None)
        with self._engine.connect() as connection:
            pairs = connection.scalar(select(func.count()).select_from(PAIRS)) or 0
            own = select(JUDGEMENTS.c.annotator, func.count(JUDGEMENTS.c.strength), func.count())
            by = connection.execute(own.where(_STANDING).group_by(JUDGEMENTS.c.annotator)).all()
            per_pair = select(func.count().label("n")).where(_STANDING, decided).group_by(JUDGEMENTS.c.pair).subquery()
            votes = connection.execute(select(per_pair.c.n, func.count()).group_by(per_pair.c.n)).all()
            latest = connection.execute(select(func.max(JUDGEMENTS.c.at), func.max(JUDGEMENTS.c.undone_at))).one()
        return {
            "pairs": pairs,
            "annotators": {name: {"judged": done, "passed": total - done} for name, done, total in sorted(by)},
            "votes": {int(n): int(count) for n, count in votes},
            "latest": tuple(latest),
        }

    def standing(self) -> list[tuple[str, str, int]]:
        """Return pair, annotator and strength of all judgements that count."""
        query = select(JUDGEMENTS.c.pair, JUDGEMENTS.c.annotator, JUDGEMENTS.c.strength)
        with self._engine.connect() as connection:
            rows = connection.execute(query.where(_STANDING, JUDGEMENTS.c.strength.is_not(None)))
            return [(row.pair, row.annotator, row.strength) for row in rows]

    def export(self) -> Iterator[dict[str, Any]]:
        """Yield judged pairs as comparisons: one edge for each judgement, with who gave it and how strong it is.

        ``p`` is 1 for whichever is better and 0.5 for a tie, and ``confidence`` the strength from 0 to 3; nothing is
        averaged. ``meta`` holds the pair's id, and of each judgement token, time, seconds and whether b came first.
        """
        query = select(PAIRS, JUDGEMENTS).join_from(PAIRS, JUDGEMENTS, JUDGEMENTS.c.pair == PAIRS.c.id)
        query = query.where(_STANDING, JUDGEMENTS.c.strength.is_not(None)).order_by(PAIRS.c.position, JUDGEMENTS.c.at)
        record: dict[str, Any] | None = None
        with self._engine.connect() as connection:
            for row in connection.execute(query):
                if record is None or record["meta"]["row"]["pair"] != row.pair:
                    if record is not None:
                        yield record
                    record = _record(_pair(row))
                record["edges"].append(_edge(row))
                told = {"token": row.token, "at": row.at, "seconds": row.seconds, "turned": row.turned}
                record["meta"]["row"]["judgements"].append({"annotator": row.annotator, **told})
        if record is not None:
            yield record

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


def _engine(place: str, timeout_s: float) -> Engine:
    address = place if "://" in place else f"sqlite:///{place}"
    try:
        url = make_url(address)
        lite = url.get_backend_name() == "sqlite"
        options = {"timeout": 30} if lite else {"connect_timeout": int(timeout_s)}
        engine = create_engine(url, connect_args=options, pool_pre_ping=not lite)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise ConfigError(
            "this is no database that can be used",
            where=_without_password(place),
            expected="a file, or postgresql+psycopg://user:password@host/name",
            got=str(error).splitlines()[0],
            remedy="pip install 'assay[serve,postgresql]' for PostgreSQL",
        ) from error
    if lite:
        event.listen(engine, "connect", _safe)
    return engine


def _safe(connection: Any, _: Any) -> None:
    """Let SQLite write through to the disk before a transaction is called done, and keep what refers to what."""
    cursor = connection.cursor()
    for line in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {line}")
    cursor.close()


def _unreachable(place: str, error: Exception) -> ConfigError:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return ConfigError(
        "the database of judgements cannot be reached",
        where=_without_password(place),
        got=(str(cause).strip().splitlines() or [type(cause).__name__])[0],
        remedy="look whether it runs, whether the folder is there and may be written to, and at user and password",
    )


def _without_password(place: str) -> str:
    try:
        return make_url(place).render_as_string(hide_password=True) if "://" in place else place
    except ArgumentError:
        return place.partition("://")[0] + "://…"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _pair(row: Any) -> Pair:
    return Pair(row.id, json.loads(row.prompt), row.a, row.b)


def _record(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": pair.prompt,
        "responses": [pair.a, pair.b],
        "edges": [],
        "meta": {"row": {"pair": pair.id, "judgements": []}},
    }


def _edge(row: Any) -> dict[str, Any]:
    a, b = (0, 1) if row.strength >= 0 else (1, 0)
    p = 1.0 if row.strength else 0.5
    return {
        "a": a,
        "b": b,
        "p": p,
        "w": 1.0,
        "source": "human",
        "annotator": row.annotator,
        "confidence": float(abs(row.strength)),
    }
