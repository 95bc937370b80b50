#!/bin/sh
# Whatever ffmpeg reads: files of any format, network cameras (rtsp://).
#
# Shows    pictures as a pipe of Motion JPEG into `timeconv stream -`, of a file in order, of a live source at its own time
# Needs    a service (make serve), ffmpeg 5.1 or newer
# Run      sh examples/ffmpeg.sh talk.mkv --csv talk.csv                 # all options of `timeconv stream` may follow
#          sh examples/ffmpeg.sh rtsp://camera.example/stream --csv live.csv
set -eu

[ $# -ge 1 ] || { echo "usage: ffmpeg.sh SOURCE [options of timeconv stream]" >&2; exit 2; }
source=$1; shift
PATH=$(dirname "$0")/../.venv/bin:$PATH

# The pictures: no more pixels than it takes to find a face, and finely enough encoded to read it.
pictures() { ffmpeg -nostdin -loglevel error "$@" -an -vf "scale='min(1280,iw)':-2" -c:v mjpeg -q:v 3 -f image2pipe -; }

case $source in
rtsp://*) pictures -fflags nobuffer -rtsp_transport tcp -i "$source" -fps_mode passthrough | timeconv stream - "$@" ;;
*://*) pictures -fflags nobuffer -i "$source" -fps_mode passthrough | timeconv stream - "$@" ;;
*) pictures -i "$source" -r 25 | timeconv stream - --every --fps 25 "$@" ;;
esac
