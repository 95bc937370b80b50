#!/bin/sh
# REST: one window of five frames, or one picture, with curl.
#
# Shows    what is asked and answered, errors as problem+json, a key that no list of processes shows, and trying again when
#          the service says so (curl heeds Retry-After)
# Needs    a service (make serve), curl, five JPEGs of one face, oldest first (from a clip: ffmpeg -i clip.mp4 -vframes 5 %d.jpg)
# Run      sh examples/rest.sh 1.jpg 2.jpg 3.jpg 4.jpg 5.jpg
#          URL=https://faces.example.org TIMECONV_KEY=tc_... sh examples/rest.sh 1.jpg 2.jpg 3.jpg 4.jpg 5.jpg
set -eu

[ $# -eq 5 ] || { echo "usage: rest.sh 1.jpg 2.jpg 3.jpg 4.jpg 5.jpg" >&2; exit 2; }
url=${URL:-http://127.0.0.1:8000}

# Prints the body, then the status. The key goes in by standard input.
ask() {
    path=$1; shift
    echo "${TIMECONV_KEY:+header = \"Authorization: Bearer $TIMECONV_KEY\"}" |
        curl --config - --silent --show-error --max-time 30 --retry 3 --write-out '\n%{http_code}\n' "$@" "$url$path"
}

echo "# Is it well? 503 if it is to be started anew."
ask /healthz

echo "# Which networks are there? The beginning of the answer, which has their labels and scores too."
ask /v1/models | cut -c 1-80

echo "# Five frames, oldest first. A prediction, or a frame without a face (no_face)."
ask /v1/predict -F "frames=@$1" -F "frames=@$2" -F "frames=@$3" -F "frames=@$4" -F "frames=@$5"

echo "# One picture, which stands for all five: no motion in it. And another network."
ask '/v1/predict?model=timeconv-mini-xception' -H 'Content-Type: image/jpeg' --data-binary "@$5"

echo "# What is wrong is told by code, and whether the same may be tried again (retryable)."
ask /v1/predict -H 'Content-Type: image/jpeg' --data-binary "not a picture"
ask '/v1/predict?model=nobody' -H 'Content-Type: image/jpeg' --data-binary "@$1"
