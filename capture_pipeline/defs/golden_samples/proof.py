"""Next-day proof: a session compared with the trades and klines that the exchange published for its days.

The module has the asset, its check, its job and its sensor.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

import dagster as dg

from capture_pipeline.binance.periods import iso
from capture_pipeline.checks.recordings import PROOF_HOLDS
from capture_pipeline.defs.golden_samples.sessions import SESSIONS, find_session_folder, sessions_folder
from capture_pipeline.defs.klines.raw import ARCHIVE_POOL
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import (
    NewestMaterializations,
    build_check_spec,
    build_evaluation,
)
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.resources import with_short_timeouts
from capture_pipeline.defs.shared.runless_events import report_evaluation, report_materialization
from capture_pipeline.defs.shared.sensor_backoff import Attempts
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError, LakeError
from capture_pipeline.golden.proof.prover import prove
from capture_pipeline.golden.proof.report import SessionProof, State, markdown, read_proof
from capture_pipeline.golden.proof.schedule import find_due_sessions
from capture_pipeline.recorder.lifecycle import list_sessions

ASSET = PROOF_HOLDS.asset
_MAX_RUNS = 10
_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("symbol", "string", "Symbol in capitals, for instance BTCUSDT"),
        dg.TableColumn("day", "date", "UTC day of the trade time at the exchange"),
        dg.TableColumn(
            "trades",
            "struct",
            "Recorded trades compared with published trades by id: counts, volumes in base asset, losses in "
            "the gap ledger, differences",
        ),
        dg.TableColumn(
            "bars",
            "struct",
            "Bars computed from recorded trades compared with published klines: counts, differences",
        ),
        dg.TableColumn("files", "list", "Compared files of the exchange, as paths below the storage root"),
    ]
)
Event = dg.Output[None] | dg.AssetCheckEvaluation


@dg.asset(
    name=ASSET,
    group_name="golden_samples",
    kinds={"binance", "json"},
    deps=["golden_trades"],
    partitions_def=SESSIONS,
    pool=ARCHIVE_POOL,
    code_version="1",
    description="Compares each day of a session with the published trades (by id) and klines. Losses in the "
    "gap ledger are not counted as differences. A day that is not published yet is compared later.",
    metadata={"dagster/column_schema": _SCHEMA},
)
def next_day_proof(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> dg.MaterializeResult[Any]:
    """Download the published files, compare, and publish the result."""
    with domain_errors_as_dagster(context.op_execution_context):
        proof = prove(deployment, find_session_folder(deployment, context.partition_key))
    return outputs.materialization(_metadata(deployment, proof))


def _metadata(deployment: Deployment, proof: SessionProof) -> dict[str, Any]:
    return {
        "state": str(proof.state),
        **asdict(proof.figures),
        "days": len(proof.days),
        "captured_from": proof.captured_from,
        "proof": markdown(proof),
        "path": deployment.lake.proof(proof.session),
    }


SPEC = build_check_spec(PROOF_HOLDS, SESSIONS)


@dg.multi_asset_check(
    name="next_day_proof_checks",
    specs=[SPEC],
    description="Reports whether the last proof of a session holds.",
)
def next_day_proof_checks(
    context: dg.AssetCheckExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[Event]:
    """Yield the evaluation of the last published proof of a session."""
    with domain_errors_as_dagster(context.op_execution_context):
        session = find_session_folder(deployment, context.partition_key).session
        proof = read_proof(deployment.lake.proof(session))
        if proof is None:
            raise LakeError("there is no proof", where=session, remedy=f"materialize {ASSET} of this session")
    yield _evaluation(NewestMaterializations(context.instance, [proof.session]), proof)
    yield dg.Output(None, output_name=SPEC.get_python_identifier())


def _evaluation(newest: NewestMaterializations, proof: SessionProof) -> dg.AssetCheckEvaluation:
    first = next((difference for day in proof.days for difference in day.listed), None)
    details = (
        f"; first: {first.where}, {first.field}: captured {first.captured}, published {first.published}"
        if first
        else ""
    )
    details += "".join(f"; {each}" for each in proof.not_compared)
    is_good = proof.state not in {State.DIFFERS, State.UNPROVED}
    result = PROOF_HOLDS.pass_if(
        is_good, f"{proof.state}{details}", state=str(proof.state), **asdict(proof.figures)
    )
    return build_evaluation(result, newest.target(ASSET, proof.session), proof.session)


def report_proofs(
    context: dg.SensorEvaluationContext, deployment: Deployment, sessions: Collection[str]
) -> int:
    """Report proofs that no run of Dagster created, with the evaluation of their check.

    A proof that cannot be read is named in the log and left out.

    Args:
        context: Context of the sensor.
        sessions: Finished sessions that are partitions.

    Returns:
        The number of reported proofs.
    """
    instance, reported = context.instance, 0
    paths = {
        session: path for session in sorted(sessions) if (path := deployment.lake.proof(session)).exists()
    }
    newest = NewestMaterializations(instance, paths)
    for session, path in paths.items():
        known = newest.target(ASSET, session)
        if known is not None and known.timestamp >= path.stat().st_mtime:
            continue
        try:
            proof = read_proof(path)
        except CaptureError as error:
            outputs.log_warning(context, f"the proof of {session} is not reported: {error}")
            continue
        if proof is not None:
            report_materialization(
                instance, outputs.partition_materialization(ASSET, session, _metadata(deployment, proof))
            )
            report_evaluation(instance, _evaluation(NewestMaterializations(instance, [session]), proof))
            reported += 1
    return reported


prove_session = dg.define_asset_job(
    "prove_session",
    dg.AssetSelection.assets(ASSET),
    description="Compares one session with the trades and klines that the exchange published for its days.",
)


@dg.sensor(
    job=prove_session,
    minimum_interval_seconds=1800,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every 30 min: starts the proof of each finished session of the last 14 days, from five "
    "hours after the last midnight UTC of the session. If a file is not published yet, the waits between "
    "two attempts grow to a day.",
)
def proof_sensor(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult | dg.SkipReason:
    """Request one run for each session without a complete proof."""
    try:
        now_us = with_short_timeouts(deployment).now_us()
        found = find_due_sessions(
            deployment.lake, reversed(list_sessions(sessions_folder(deployment))), now_us
        )
    except CaptureError as error:
        return outputs.skip(f"skipped until the next tick: {error}")
    for session, reason in found.damaged.items():
        outputs.log_warning(context, f"{session} is left out: {reason}")
    due, attempts = Attempts.load(context.cursor).select_due(found.wanted, now_us, _MAX_RUNS)
    if not due:
        waiting = f"{len(found.wanted)} sessions wait for their next attempt"
        nothing = f"no session can be proved now; {found.later} wait until their days are published"
        return dg.SensorResult(
            skip_reason=outputs.skip(waiting if found.wanted else nothing), cursor=attempts.dump()
        )
    runs = [
        dg.RunRequest(run_key=f"prove-{session}-{number}-{iso(now_us)}", partition_key=session)
        for session, number in due.items()
    ]
    return dg.SensorResult(
        run_requests=runs,
        cursor=attempts.dump(),
        dynamic_partitions_requests=[SESSIONS.build_add_request(list(due))],
    )
