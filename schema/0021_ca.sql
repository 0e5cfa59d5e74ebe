-- +goose Up
-- The certificates of one user, and of one client, newest first.
create index ca_certificate_user on ca_certificate (tenant_id, user_id, cert_ref) where user_id is not null;
create index ca_certificate_client on ca_certificate (tenant_id, client_id, cert_ref) where client_id is not null;
