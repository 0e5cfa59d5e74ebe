-- Rights of the database roles of signet. Run it as the owner of the tables, in
-- their schema, after each "signet migrate"; it may be repeated.
--
--   signet_owner     owns the tables; "signet migrate" connects as it and nothing
--                    else does. Whoever owns a table can give itself any right on
--                    it, so the service must never be the owner.
--   signet_app       "signet serve": reads and writes, but can not change or
--                    remove what is only ever appended.
--   signet_auditor   "signet audit verify": reads the audit tables.
--
-- Give logins to these roles, not rights to logins:
--   create role signet_node_1 login password '...' in role signet_app;

do $$
begin
    if not exists (select from pg_roles where rolname = 'signet_app') then
        create role signet_app nologin;
    end if;
    if not exists (select from pg_roles where rolname = 'signet_auditor') then
        create role signet_auditor nologin;
    end if;
end
$$;

-- From nothing, so that a right given by an older version of this file goes.
revoke all on all tables in schema public from public, signet_app, signet_auditor;
revoke all on all sequences in schema public from public, signet_app, signet_auditor;
revoke create on schema public from public, signet_app, signet_auditor;
grant usage on schema public to signet_app, signet_auditor;

grant select, insert, update, delete on all tables in schema public to signet_app;
grant usage, select on all sequences in schema public to signet_app;

-- Append-only: what happened, the chain over it and the signed checkpoints.
revoke update, delete on audit_event, audit_pack, audit_chain, audit_checkpoint from signet_app;
-- The end of the chain moves and is never removed.
revoke delete on audit_head from signet_app;
-- Certificates and sealed data keys are not forgotten by the service either.
revoke delete on ca_signer, ca_certificate, app, app_master, app_version, own_key from signet_app;
revoke update, delete on dek, kek, tenant from signet_app;
-- ... but a data key moves on to RETIRED when nothing is sealed with it any more.
grant update (state, state_at, held_until) on dek to signet_app;
-- A hold is placed by the service, and ended by an operator with "signet rollback
-- release" as the owner.
revoke update, delete on rollback_hold from signet_app;
revoke delete on rollback_mark from signet_app;
-- The version of the schema is the owner's.
revoke insert, update, delete on goose_db_version from signet_app;
revoke insert, update, delete on audit_entry from signet_app;

grant select on audit_event, audit_pack, audit_entry, audit_chain, audit_checkpoint, audit_head to signet_auditor;
