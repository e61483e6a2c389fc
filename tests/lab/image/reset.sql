-- Ends every session, and undoes what tests do to roles and to the database.
ALTER SYSTEM RESET ALL;
ALTER DATABASE shop CONNECTION LIMIT -1;
ALTER DATABASE shop RESET ALL;
ALTER ROLE shop LOGIN CONNECTION LIMIT -1;
ALTER ROLE shop RESET ALL;
ALTER ROLE oncall CONNECTION LIMIT -1;
GRANT pg_monitor, pg_signal_backend TO oncall, oncall_rescue;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender');
-- Signalled is not gone: fail, and so be restarted, if some are still there after a second.
DO $$
BEGIN
    FOR attempt IN 1..50 LOOP
        PERFORM pg_stat_clear_snapshot();
        IF NOT EXISTS (
            SELECT FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender')
        ) THEN
            RETURN;
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
    RAISE 'sessions are still there';
END $$;
