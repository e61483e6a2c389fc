-- The roles and the one table of the lab. By convention a role's password is its name
-- followed by "-lab-only"; lab.py relies on that.
CREATE ROLE shop LOGIN PASSWORD 'shop-lab-only';
CREATE ROLE oncall LOGIN PASSWORD 'oncall-lab-only';
CREATE ROLE oncall_rescue LOGIN REPLICATION PASSWORD 'oncall_rescue-lab-only';
CREATE ROLE nobody_special LOGIN PASSWORD 'nobody_special-lab-only';
GRANT pg_monitor, pg_signal_backend TO oncall, oncall_rescue;
CREATE DATABASE shop OWNER shop;
\connect shop
CREATE TABLE items (id integer PRIMARY KEY, name text NOT NULL, stock integer NOT NULL);
INSERT INTO items SELECT n, 'item ' || n, 100 FROM generate_series(1, 100) AS n;
ALTER TABLE items OWNER TO shop;
