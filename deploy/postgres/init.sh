#!/bin/sh
# Makes the role and the database of Fanfare when the volume is new. The role owns its schema and nothing else: it is no superuser,
# makes no databases and no roles. Postgres's image runs this once, as the superuser; with psql it runs anywhere.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --set "password=$ROLE_PASSWORD" \
  --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
CREATE ROLE fanfare LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
CREATE DATABASE fanfare;
REVOKE ALL ON DATABASE fanfare FROM PUBLIC;
GRANT CONNECT ON DATABASE fanfare TO fanfare;
\connect fanfare
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA fanfare AUTHORIZATION fanfare;
ALTER ROLE fanfare IN DATABASE fanfare SET search_path = fanfare;
SQL
