# The one user who is let in comes from outside: a password in the image could be read by everybody who has the image.
set -eu
: "${DB_USER:?has to be set}" "${DB_PASSWORD:?has to be set}"

# Every change is written to a file before it is answered.
exec redis-server --port "${DB_PORT:-6379}" --protected-mode no --appendonly yes \
    --user default off --user "$DB_USER" on ">$DB_PASSWORD" '~*' '+@all'
