# Puts the page together from the files that the container was given, and serves it.
set -eu
mkdir -p /tmp/www
{
    cat /etc/motd
    cat /srv/site/*.txt
    # A secret is a file; what it says is nobody's business.
    echo "the token has $(wc -c </run/secrets/token) bytes"
} >/tmp/www/index.html
date >>/var/visits/starts
trap 'exit 0' TERM
httpd -f -p 8080 -h /tmp/www &
wait
