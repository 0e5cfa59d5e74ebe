// Package rollback finds out that the database went back in time, and keeps
// verdicts from being made on it: a backup that was restored, a volume that was
// reset to a snapshot, a standby that had not received everything. Counters and
// used nonces are older then than what was answered, and what somebody recorded
// in between would be accepted a second time.
//
// The mark. Every serving node counts up a row of its own once a second and keeps
// the number in a file of its own, on a disk that is not restored together with
// the database. The database is always written first, so its number is never
// behind the file's, but after a step back. That is looked at when the node
// starts, on each new connection before anything else uses it, and with each
// beat. A registration whose revision went back since this node read it proves
// the same, for what happened since the last beat.
//
// States of a tenant: free ── a step back is found ──> held ── Release ──> free.
// Held tenants are rows of the database, written by the node that found out;
// other nodes read them with their next beat, and find out by their own marks.
// While they can not be written, the node holds everybody by itself.
//
// Promises. A verdict that was decided after the step back is not answered: new
// connections are refused until the hold stands, and verdicts ask Check before
// they begin and once more when they are stored. Release moves all counters on
// by as many signatures as the operator says, in batches that are repeated from
// where they were cut off. Afterwards messages whose own time may be from before
// the step back stay refused (Fresh), because their nonces are forgotten.
//
// What it can not see: a step back of less than a second that touched only
// registrations this node does not remember; one that took the files along; and
// one that no node with a file outlived.
//
// Owns: tables rollback_mark and rollback_hold, and the mark file, which is locked
// while the process lives. Callers: registration, token, cmd. Safe for concurrent
// use; a nil *Guard guards nothing. Source: fault 15 of the reliability guide,
// docs/design/0025, docs/restore.md.
package rollback
