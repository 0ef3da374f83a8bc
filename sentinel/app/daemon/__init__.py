"""The daemon: due alerts are evaluated on time, time-based notifications planned, all delivered.

One job of APScheduler has the next start of all alerts as its trigger, so that everything due at
one moment is one batch. Batches don't wait for each other. Another job plans what needs no query.
Deliveries run all the time. Of several daemons on one store one leads; a leader that was stopped
for too long is fenced off by its lease, and what it had not recorded is due elsewhere.
"""
