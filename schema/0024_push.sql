-- +goose Up
-- For the sweep of messages that are older than the inbox keeps them.
create index push_inbox_created on push_inbox (created_at);
