#!/usr/bin/env bash
# Renders a report in headless Chromium, light on a desk and dark on a phone, and
# fails if the page logs an error or asks for anything over the network:
#   tritter-verify --report out.html model.trit && verify/testdata/render.sh out.html FOLDER
set -euo pipefail
page=$(realpath "$1") out=$(realpath "$2")
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
shot() { # name, window, further flags
	local name=$1 size=$2
	shift 2
	chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync \
		--hide-scrollbars --enable-logging=stderr --user-data-dir="$profile" --host-resolver-rules='MAP * ~NOTFOUND' \
		--window-size="$size" "$@" --screenshot="$out/$name.png" "file://$page" 2>"$profile/log"
	if grep -E 'CONSOLE|ERR_NAME_NOT_RESOLVED' "$profile/log"; then
		echo "$name: the page logged an error" >&2
		exit 1
	fi
	echo "$out/$name.png"
}
shot desk 1280,2400
shot phone 420,2400 --blink-settings=preferredColorScheme=0
