#!/bin/sh
# Makes what the two sides need to trust each other: a token, and a certificate signed by an authority of your own; and
# the judges' secret, which completions can't guess.
#
#   deploy/make-keys.sh FOLDER NAME...
#
# NAME is a host name or an IP address under which trainers reach the server; give all of them. Then
#   FOLDER/server/   token.txt, server.crt, server.key,  belongs on the reward server, the same on each of its replicas
#                    judge-secret, ca.crt                (ca.crt: for its health probe)
#   FOLDER/trainer/  token.txt, ca.crt                   belongs on every trainer
#   FOLDER/ca.key                                        belongs on neither: keep it to sign the next certificate
# What is there already is kept, so that it can run at every start; remove FOLDER to make new ones.
set -eu
umask 077

if [ "$#" -lt 2 ]; then
  echo "usage: $0 FOLDER NAME..." >&2
  exit 2
fi
command -v openssl >/dev/null || {
  echo "$0 needs openssl: install the package of that name" >&2
  exit 1
}
folder=$1
shift
days=${DAYS:-365}

mkdir -p "$folder/server" "$folder/trainer"

[ -s "$folder/server/judge-secret" ] || openssl rand -hex 32 >"$folder/server/judge-secret"

if [ -s "$folder/server/server.crt" ] && [ -s "$folder/trainer/ca.crt" ]; then
  echo "$folder: keys are there already"
  exit 0
fi

# openssl talks a lot; only what it says about a failure is of use.
quietly() {
  said=$("$@" 2>&1) || {
    echo "$said" >&2
    exit 1
  }
}

names=""
for name in "$@"; do
  case $name in
    *:*) kind=IP ;;
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
  esac
  names="$names${names:+,}$kind:$name"
done

openssl rand -hex 32 >"$folder/server/token.txt"
cp "$folder/server/token.txt" "$folder/trainer/token.txt"

quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$days" -subj "/CN=reward server authority" \
  -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
  -keyout "$folder/ca.key" -out "$folder/trainer/ca.crt"

quietly openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
  -keyout "$folder/server/server.key" -out "$folder/server.csr"
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names" >"$folder/server.ext"
quietly openssl x509 -req -in "$folder/server.csr" -CA "$folder/trainer/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial \
  -days "$days" -extfile "$folder/server.ext" -out "$folder/server/server.crt"
cp "$folder/trainer/ca.crt" "$folder/server/ca.crt"
rm -f "$folder/server.csr" "$folder/server.ext" "$folder/trainer/ca.srl" "$folder/ca.srl"

echo "$folder: token and certificate for $names, good for $days days"
