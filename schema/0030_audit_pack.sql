-- +goose Up
-- Events that were written together, many in one row (docs/design/0015): events is
-- a JSON array of objects with the columns of audit_event, in the order of their
-- ids. id is that of the last event, first_id that of the first; users and apps
-- are what the events name, each once, and say which packs to open for a user or
-- an application. Append-only, like audit_event, and without foreign keys as well.
create table audit_pack (
    tenant_id text   not null,
    id        uuid   not null,
    first_id  uuid   not null check (first_id <= id),
    users     text[] not null,
    apps      text[] not null,
    events    text   not null,
    primary key (tenant_id, id)
);
-- Not compressed: that would cost more than all the rest of the row.
alter table audit_pack alter column events set storage external;
alter table audit_pack alter column users set storage external;
-- A user of two tenants leads to packs of both; the tenant is compared in the row.
create index audit_pack_users on audit_pack using gin (users) with (gin_pending_list_limit = 512);

-- All events, for people with an SQL prompt; the code opens packs by itself.
create view audit_entry (tenant_id, id, at, action, actor, subject, user_id, app_id, outcome, detail) as
select tenant_id, id, at, action, actor, subject, user_id, app_id, outcome, detail from audit_event
union all
select p.tenant_id, e.id, e.at, e.action, e.actor, e.subject, e.user_id, e.app_id, e.outcome, e.detail
from audit_pack p cross join lateral jsonb_to_recordset(p.events::jsonb)
    as e (id uuid, at timestamptz, action text, actor text, subject text, user_id text, app_id text, outcome text, detail jsonb);
