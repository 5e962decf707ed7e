"""Deliver the alerts that are due, and say what became of them."""

import dagster as dg

from orchestration.resources import Engine


@dg.sensor(
    name="alert_delivery", minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells people what is due in the outbox, and tries again what was not taken",
)  # fmt: skip
def alert_delivery(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """One round of deliveries; it starts no run."""
    from nightscore.monitoring.alerts import Delivery, deliver_alerts

    done = deliver_alerts(Engine().workspace())
    if done == Delivery():
        return dg.SkipReason("no alert is due")
    return dg.SkipReason(
        f"{done.sent} alerts sent and {done.messages} messages taken; {done.waiting} to be tried again, "
        f"{done.given_up} given up"
    )
