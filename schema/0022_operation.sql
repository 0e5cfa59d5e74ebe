-- +goose Up
-- The marks of all offline OTPs whose checks have no known outcome, 32 bytes
-- each: one alone was lost when another check began after it.
alter table operation drop constraint operation_attempt_check;
alter table operation add constraint operation_attempt_check
    check (octet_length(attempt) between 32 and 256 and octet_length(attempt) % 32 = 0);
