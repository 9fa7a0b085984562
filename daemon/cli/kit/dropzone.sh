#!/usr/bin/env bash
# Sends a list to the drop zone, waits for its receipt, fetches results. Needs: age, sftp and ssh-keygen (OpenSSH 8.1).
# Verstuurt een lijst, wacht op het ontvangstbewijs, haalt resultaten op. Nodig: age, sftp en ssh-keygen (OpenSSH 8.1).
#
#   ./dropzone.sh send EXCHANGE FLOW FILE    encrypt FILE, send it, wait for the signed receipt
#   ./dropzone.sh fetch EXCHANGE             fetch results, decrypt them into received/EXCHANGE, remove them from the zone
#
# DROPZONE_KEY       your private SSH key             (default: ~/.ssh/id_ed25519)
# DROPZONE_IDENTITY  your age identity, to decrypt    (default: key.txt beside this script)
# DROPZONE_PATIENCE  seconds to wait for the receipt  (default: 900)
set -euo pipefail
umask 077

readonly HOST='@HOST@' PORT='@PORT@' USER_NAME='@USER@'
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
key=${DROPZONE_KEY:-$HOME/.ssh/id_ed25519}
identity=${DROPZONE_IDENTITY:-$here/key.txt}
patience=${DROPZONE_PATIENCE:-900}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

main() {
    case "${1:-} $#" in
        'send 4') send "$2" "$3" "$4" ;;
        'fetch 2') fetch "$2" ;;
        *) fail "usage: $0 send EXCHANGE FLOW FILE | $0 fetch EXCHANGE" ;;
    esac
}

send() {
    local exchange=$1 flow=$2 file=$3 name recipients
    plain_name "$exchange"; plain_name "$flow"
    name=$(basename -- "$file").age
    plain_name "$name"
    recipients=$here/recipients/$exchange.$flow.txt
    [ -e "$recipients" ] || fail "this kit knows no flow $flow in $exchange to send to; LEESMIJ-README.html, part 7, has those there are"
    [ -s "$recipients" ] || fail "who receives this has no key yet; ask for a new kit later: $recipients"
    age -R "$recipients" -o "$work/$name" -- "$file"
    receipts "$exchange" "$name" >"$work/before"
    batch "put \"$work/$name\" \"/$exchange/in/$name\"" >/dev/null || fail "the zone did not take $name; the message above says why"
    echo "sent: $name"
    wait_for_receipt "$exchange" "$name"
}

# The receipt is written anew when the work is done; both files are fetched again until they fit each other.
wait_for_receipt() {
    local exchange=$1 name=$2 receipt verdict end=$((SECONDS + patience))
    while [ "$SECONDS" -lt "$end" ]; do
        receipt=$(receipts "$exchange" "$name" | grep -vxFf "$work/before" | tail -n 1 || true)
        if [ -n "$receipt" ] && get "$exchange/receipts/$receipt" && get "$exchange/receipts/$receipt.sig"; then
            verdict=$(sed -n 's/^  "verdict": "\([a-z-]*\)".*/\1/p' "$work/$receipt")
            if [ "$verdict" != in-progress ] && genuine "$receipt"; then
                mkdir -p "$here/receipts"
                cp -- "$work/$receipt" "$work/$receipt.sig" "$here/receipts/"
                echo "receipt: $verdict ($here/receipts/$receipt)"
                quality "$exchange" "$receipt"
                [ "$verdict" = delivered ] || { sed -n 's/^    "\(nl\|en\)": /\1: /p' "$here/receipts/$receipt"; exit 1; }
                return
            fi
        fi
        sleep 3
    done
    fail "no receipt within $patience seconds; it may still come: look into /$exchange/receipts"
}

# What to correct, where the exchange has rules for what a list holds: rows and columns, and never a value.
quality() {
    local exchange=$1 receipt=$2 report rows
    report=$(sed -n 's/^    "report": "\(.*\)",\{0,1\}$/\1/p' "$work/$receipt")
    rows=$(sed -n 's/^    "faulty-rows": \([0-9]*\).*/\1/p' "$work/$receipt")
    if [ -z "$report" ] || grep -q '^    "findings": 0,' "$work/$receipt"; then return; fi
    if get "$exchange/receipts/$report"; then
        cp -- "$work/$report" "$here/receipts/"
        echo "rows to correct / te verbeteren rijen: $rows ($here/receipts/$report)"
    fi
}

fetch() {
    local exchange=$1 name count=0 left=0
    plain_name "$exchange"
    mkdir -p "$here/received/$exchange"
    while IFS= read -r name; do
        case $name in
            '' | -* | .* | *['"\*?[]'*)
                echo "left on the zone, its name is not for this script (use WinSCP): $name" >&2
                left=$((left + 1))
                continue
                ;;
        esac
        get "$exchange/out/$name" || fail "$name could not be fetched"
        # A result locked with a passphrase asks for it here.
        if head -n 2 -- "$work/$name" | grep -aq '^-> scrypt '; then
            if ! age -d -o "$work/plain" -- "$work/$name" </dev/tty; then
                echo "left on the zone, it was not opened with a passphrase: $name" >&2
                left=$((left + 1))
                continue
            fi
        elif ! age -d -i "$identity" -o "$work/plain" -- "$work/$name" 2>"$work/why"; then
            # A colleague's share, for one. Others may still be ours.
            echo "left on the zone, $identity does not open it: $name" >&2
            sed -n 's/^age: error: /  /p' "$work/why" >&2
            left=$((left + 1))
            continue
        fi
        mv -- "$work/plain" "$here/received/$exchange/${name%.age}"
        # Only now is it ours: removing it tells the zone so.
        batch "rm \"/$exchange/out/$name\"" >/dev/null || true
        echo "fetched: $here/received/$exchange/${name%.age}"
        count=$((count + 1))
    done < <(list "$exchange/out")
    echo "$count result(s)"
    [ "$left" -eq 0 ] || [ "$count" -gt 0 ] || exit 1
}

# Plain names only, as everything else that becomes part of a command.
receipts() {
    list "$1/receipts" | grep -F -- "$2." | LC_ALL=C grep -x '[A-Za-z0-9_][A-Za-z0-9._-]*\.json' || true
}

list() {
    batch "ls -1 \"/$1\"" | grep -v '^sftp>' | sed 's|.*/||' || true
}

get() {
    batch "get \"/$1\" \"$work/\"" >/dev/null 2>&1
}

genuine() {
    ssh-keygen -q -Y verify -f "$here/allowed_signers" -I dropzone-zone -n receipt@dropzone \
        -s "$work/$1.sig" <"$work/$1" >/dev/null 2>&1
}

batch() {
    printf '%s\n' "$1" | sftp -q -b - -P "$PORT" -i "$key" -o IdentitiesOnly=yes -o BatchMode=yes \
        -o StrictHostKeyChecking=yes -o "UserKnownHostsFile=\"$here/known_hosts\"" "$USER_NAME@$HOST"
}

# What becomes part of a command for sftp holds nothing that sftp would read as more than a name.
plain_name() {
    case $1 in
        '' | -* | .* | *[!A-Za-z0-9._-]*) fail "rename it to letters, digits, dots, hyphens and underscores: $1" ;;
    esac
}

fail() {
    echo "dropzone: $*" >&2
    exit 1
}

main "$@"
