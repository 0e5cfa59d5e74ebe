package outbox_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
)

// Our one file and River's own steps must leave the same catalog; Validate alone
// only reads which versions the table says.
func TestSchemaIsWhatRiverWants(t *testing.T) {
	t.Parallel()
	ctx, ours := t.Context(), pgtest.New(t)
	m, err := rivermigrate.New(riverpgxv5.New(ours), nil)
	require.NoError(t, err)
	res, err := m.Validate(ctx, nil)
	require.NoError(t, err)
	require.True(t, res.OK, "%v", res.Messages)

	theirs, err := pg.Open(ctx, pgtest.EmptyURL(t), pg.Options{})
	require.NoError(t, err)
	defer theirs.Close()
	m, err = rivermigrate.New(riverpgxv5.New(theirs), nil)
	require.NoError(t, err)
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	require.NoError(t, err)

	want := catalog(t, theirs)
	require.Greater(t, len(want), 50)
	require.Equal(t, want, catalog(t, ours))

	_, err = ours.Exec(ctx, `alter table river_job alter column max_attempts set default 26`)
	require.NoError(t, err)
	require.NotEqual(t, want, catalog(t, ours), "the comparison can fail")
}

func catalog(t *testing.T, db *pgxpool.Pool) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), `
select * from (
    select 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
        || ' null=' || (not a.attnotnull) || ' default=' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || c.relpersistence::text
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where c.relname like 'river\_%' and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
    union all
    select 'index ' || indexdef from pg_indexes where tablename like 'river\_%'
    union all
    select 'check ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
    from pg_constraint where conrelid::regclass::text like 'river\_%'
    union all
    select 'function ' || pg_get_functiondef(oid) from pg_proc where proname like 'river\_%'
    union all
    select 'trigger ' || tgname from pg_trigger where not tgisinternal
    union all
    select 'enum ' || t.typname || ' ' || e.enumlabel || ' ' || row_number() over (partition by t.oid order by e.enumsortorder)
    from pg_enum e join pg_type t on t.oid = e.enumtypid
    union all
    select 'version ' || line || version from river_migration
) as x (line) order by line`)
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return out
}
