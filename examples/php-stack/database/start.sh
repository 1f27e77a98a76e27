# Makes the database's files where there are none yet, and lets one user in, whose password comes from outside.
set -eu
: "${DB_NAME:?has to be set}" "${DB_USER:?has to be set}" "${DB_PASSWORD:?has to be set}"

[ -d /data/mysql ] || mariadb-install-db --datadir=/data --skip-test-db >/dev/null

cat >/run/mysqld/start.sql <<SQL
CREATE DATABASE IF NOT EXISTS $DB_NAME;
CREATE OR REPLACE USER '$DB_USER'@'%' IDENTIFIED BY '$DB_PASSWORD';
GRANT ALL ON $DB_NAME.* TO '$DB_USER'@'%';
SQL
exec mariadbd --datadir=/data --init-file=/run/mysqld/start.sql --bind-address=0.0.0.0
