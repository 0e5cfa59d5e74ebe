-- +goose Up
-- For the sweeper that deletes what was decided long ago, where that is wanted.
create index operation_finished on operation (finished_at) where finished_at is not null;
