-- +goose Up
-- A device that talks to us sends nothing but the token's id, which must lead to
-- one tenant.
create unique index token_id on token (id);
