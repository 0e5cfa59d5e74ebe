// Package schema embeds the database migrations.
//
// One file per step, NNNN_owner.sql, applied in order by internal/pg and never
// changed once landed; the owner in the name is the package whose tables it
// makes, and only that package names them in SQL. Steps go forward only:
// expand, deploy, contract in a later step; the code runs before and after each.
// Portable PostgreSQL: no triggers, procedures, native enums, sequences on hot
// tables or advisory locks; tenant_id leads every primary and foreign key.
package schema
