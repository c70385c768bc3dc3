# shellcheck shell=bash disable=SC2207 # IFS is a newline
# Completion for bash(1) of xlatd(8), and of tayga and clatd where they are xlatd.

# _xlatd_options COMMAND: prints the options of a command, as its --help has them.
_xlatd_options() {
    case $1 in
        xlatd)
            printf '%s\n' -c --config -d --debug -n --nodetach -u --user -g --group -r --chroot \
                -p --pidfile --syslog --stdout --journal --mktun --rmtun
            ;;
        check) printf '%s\n' -c --config ;;
        clat) printf '%s\n' -c --config -d --debug -q --quiet --cleanup ;;
        container) printf '%s\n' -d --debug --forwarding ;;
        doctor) printf '%s\n' -c --config --json --ping ;;
        explain) printf '%s\n' -c --config --live -r --read --mtu --json ;;
        metrics) printf '%s\n' --listen --openmetrics ;;
        status) printf '%s\n' --json --watch ;;
        trace) printf '%s\n' -w --write -c --count ;;
    esac
    printf '%s\n' -h --help -V --version
}

# _xlatd_words COMMAND: prints what else may follow a command.
_xlatd_words() {
    case $1 in
        xlatd) printf '%s\n' check clat container doctor explain metrics status trace ;;
        clat)
            printf '%s=\n' quiet debug script-up script-down clat-dev clat-v4-addr tayga-v4-addr \
                clat-v6-addr clat-path ctmark dns64-servers plat-prefix plat-fallback-prefix \
                plat-dev forwarding-enable route-table v4-conncheck-enable v4-conncheck-delay \
                v4-defaultroute-enable v4-defaultroute-replace v4-defaultroute-metric \
                v4-defaultroute-mtu v4-defaultroute-advmss offload sandbox control-socket \
                icmp-node-id cmd-ufw cmd-nft
            ;;
        container) printf '%s\n' nat64 clat ;;
        explain) echo clat ;;
        doctor)
            echo clat
            _xlatd_devices
            ;;
        metrics | status) _xlatd_devices ;;
        trace)
            _xlatd_devices
            printf '%s\n' host proto port family dropped
            ;;
    esac
}

# _xlatd_devices: prints the devices that run, by their control sockets, or else the TUN devices:
# not every user may list the sockets. Names are quoted, since Linux takes "$(...)" for one.
_xlatd_devices() {
    local path found=''
    for path in "${RUNTIME_DIRECTORY:-/run/xlatd}"/*.sock; do
        [ -S "$path" ] || continue
        path=${path##*/}
        printf '%q\n' "${path%.sock}"
        found=yes
    done
    [ -z "$found" ] || return 0
    for path in /sys/class/net/*/tun_flags; do
        [ -e "$path" ] || continue
        path=${path%/tun_flags}
        printf '%q\n' "${path##*/}"
    done
}

# _xlatd_offer CURRENT: offers the lines of stdin that begin with CURRENT. compgen -W would expand
# them, and so run what is in the name of a device.
_xlatd_offer() {
    local word
    while IFS= read -r word; do
        [[ $word != "$1"* ]] || COMPREPLY+=("$word")
    done
}

# _xlatd_value COMMAND NAME CURRENT: completes the value of an option, or of a key, which has "=" at
# its end. Fails if NAME takes no value.
_xlatd_value() {
    case $1,$2 in
        trace,-c | trace,--count | trace,host | trace,port) ;;
        trace,proto) COMPREPLY=($(compgen -W $'tcp\nudp\nicmp' -- "$3")) ;;
        trace,family) COMPREPLY=($(compgen -W $'4\n6' -- "$3")) ;;
        *,-c | *,--config | xlatd,-p | xlatd,--pidfile | explain,-r | explain,--read | \
            trace,-w | trace,--write | clat,script-*= | clat,cmd-*=)
            COMPREPLY=($(compgen -f -- "$3"))
            compopt -o filenames 2>/dev/null
            ;;
        xlatd,-u | xlatd,--user) COMPREPLY=($(compgen -u -- "$3")) ;;
        xlatd,-g | xlatd,--group) COMPREPLY=($(compgen -g -- "$3")) ;;
        clat,plat-dev=) _xlatd_offer "$3" < <(cd /sys/class/net && printf '%q\n' *) ;;
        clat,clat-v6-addr=) COMPREPLY=($(compgen -W $'auto\nshared\nderived' -- "$3")) ;;
        clat,clat-path=) COMPREPLY=($(compgen -W $'direct\nforward' -- "$3")) ;;
        clat,quiet= | clat,debug= | clat,*-enable= | clat,v4-defaultroute-replace= | \
            clat,offload= | clat,sandbox= | clat,control-socket= | clat,icmp-node-id=)
            COMPREPLY=($(compgen -W $'yes\nno' -- "$3"))
            ;;
        explain,--live) _xlatd_offer "$3" < <(_xlatd_devices) ;;
        doctor,--ping | explain,--mtu | metrics,--listen | clat,*=) ;;
        *) return 1 ;;
    esac
    return 0
}

# _xlatd PROGRAM CURRENT PREVIOUS: completes the current word.
_xlatd() {
    local command=xlatd current=$2 name=$3 IFS=$'\n'
    COMPREPLY=()
    case ${1##*/} in
        tayga) ;;
        clatd) command=clat ;;
        *)
            # Only the first word is a command.
            if [ "$COMP_CWORD" -gt 1 ] && _xlatd_words xlatd | grep -qxF -e "${COMP_WORDS[1]}"; then
                command=${COMP_WORDS[1]}
            fi
            ;;
    esac
    # bash takes "=" for a word of its own.
    if [ "${COMP_WORDS[COMP_CWORD]}" = = ]; then
        current=''
        name=$3=
    elif [ "$3" = = ]; then
        name=${COMP_WORDS[COMP_CWORD - 2]}=
    fi
    case $name in -*=) name=${name%=} ;; esac
    if _xlatd_value "$command" "$name" "$current"; then
        return
    elif [[ $current = -* ]]; then
        COMPREPLY=($(compgen -W "$(_xlatd_options "$command")" -- "$current"))
    elif [ "$command" != xlatd ] || { [ "$COMP_CWORD" = 1 ] && [ "${1##*/}" != tayga ]; }; then
        _xlatd_offer "$current" < <(_xlatd_words "$command")
        [[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace 2>/dev/null || :
    fi
}

complete -F _xlatd xlatd
for _xlatd_name in tayga clatd; do
    case $(readlink -f "$(type -P "$_xlatd_name")") in
        */xlatd) complete -F _xlatd "$_xlatd_name" ;;
    esac
done
unset _xlatd_name
