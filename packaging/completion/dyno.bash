# bash completion for dyno(1)                                    -*- shell-script -*-

# The agent's apps or dynos; nothing, quickly, when it does not answer. "app" and "dyno" are next to each
# other in what `dyno ps --json` prints on one line, so no JSON parser is needed.
_dyno_names() { # apps|dynos
    local line app
    timeout 2 dyno "${_dyno_socket[@]}" ps --json 2>/dev/null |
        grep -oE '"app": ?"[a-z0-9-]+", ?"dyno": ?"[A-Za-z0-9_.-]+"' |
        while IFS= read -r line; do
            app=${line#*'"app":'}; app=${app#*\"}; app=${app%%\"*}
            if [[ $1 == apps ]]; then
                printf '%s\n' "$app"
            else
                line=${line#*'"dyno":'}; line=${line#*\"}
                printf '%s/%s\n' "$app" "${line%%\"*}"
            fi
        done | sort -u
}

# The agent's cached slugs, as short as they are listed.
_dyno_slugs() {
    timeout 2 dyno "${_dyno_socket[@]}" slug ls --json 2>/dev/null |
        grep -oE '"digest": ?"sha256:[0-9a-f]{12}' | sed 's/.*://'
}

_dyno_reply() { # WORDS
    local IFS=$' \t\n'
    COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

_dyno_files() {
    local IFS=$'\n'
    COMPREPLY=($(compgen "$1" -- "$cur"))
    compopt -o filenames 2>/dev/null
}

_dyno_sizes='standard-1x standard-2x performance-m performance-l'

_dyno() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local command= sub= i options= dashes=
    local -a _dyno_socket=()
    COMPREPLY=()

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --socket) _dyno_socket=(--socket "${COMP_WORDS[++i]}") ;;
        --) dashes=$i; break ;;
        -*) ;;
        *)
            if [[ -z $command ]]; then
                command=${COMP_WORDS[i]}
            elif [[ $command == slug && -z $sub ]]; then
                sub=${COMP_WORDS[i]}
            fi
            ;;
        esac
    done

    # After "--" it is somebody else's command line.
    if [[ -n $dashes ]]; then
        COMPREPLY=($(compgen -c -- "$cur"))
        return
    fi

    case $prev in
    --socket) _dyno_files -f; return ;;
    -e|--env|--slug|-o|--output) _dyno_files -f; return ;;
    -f|--procfile) [[ $command == local ]] && { _dyno_files -f; return; } ;;
    --size) _dyno_reply "$_dyno_sizes"; return ;;
    -s) [[ $command == top ]] && _dyno_reply 'memory cpu pids disk name'; return ;;
    --app) _dyno_reply "$(_dyno_names apps)"; return ;;
    -m|--formation|-p|--port|-n|--lines|--digest|--deadline) return ;;
    esac

    if [[ -z $command ]]; then
        if [[ $cur == -* ]]; then
            _dyno_reply '--socket --help --version'
        else
            _dyno_reply 'local run start scale restart pause resume resize stop ps top drain undrain logs events exec slug doctor version help'
        fi
        return
    fi

    case $command in
    local) options='-f --procfile -e --env -m --formation -p --port --slug' ;;
    run) options='--app --slug -e --env --size -t -T --' ;;
    start) options='--slug --digest -m --formation -e --env --size --no-wait --json' ;;
    scale|restart|pause|resume|ps|undrain|doctor) options='--json' ;;
    resize) options='--size --json' ;;
    top) options='-n -s --json' ;;
    stop) options='--forget --json' ;;
    drain) options='--deadline --no-wait --json' ;;
    logs|events) options='-f --follow -n --lines --json' ;;
    exec) options='-t -T --' ;;
    slug)
        case $sub in
        pack) options='-o --output --json' ;;
        fetch) options='--digest --no-wait --json' ;;
        *) options='--json' ;;
        esac
        ;;
    esac
    if [[ $cur == -* ]]; then
        _dyno_reply "$options --socket --help"
        return
    fi

    case $command in
    local|run) _dyno_files -d ;;
    start|scale|ps|top) _dyno_reply "$(_dyno_names apps)" ;;
    restart|pause|resume|resize|stop|logs) _dyno_reply "$(_dyno_names apps) $(_dyno_names dynos)" ;;
    exec) _dyno_reply "$(_dyno_names dynos)" ;;
    slug)
        case $sub in
        '') _dyno_reply 'pack inspect ls fetch rm verify' ;;
        pack) _dyno_files -d ;;
        rm|verify) _dyno_reply "$(_dyno_slugs)" ;;
        ls) ;;
        *) _dyno_files -f ;;
        esac
        ;;
    help) _dyno_reply 'local run start scale restart pause resume resize stop ps top drain undrain logs events exec slug doctor version help' ;;
    esac
}

complete -F _dyno dyno
