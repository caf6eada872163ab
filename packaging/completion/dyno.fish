# fish completion for dyno(1)

# The agent's apps or dynos; nothing, quickly, when it does not answer.
function __dyno_pairs
    timeout 2 dyno ps --json 2>/dev/null |
        string match -ra '"app": ?"[a-z0-9-]+", ?"dyno": ?"[A-Za-z0-9_.-]+"' |
        string replace -r '"app": ?"([^"]+)", ?"dyno": ?"([^"]+)"' '$1/$2'
end
function __dyno_apps
    __dyno_pairs | string replace -r '/.*' '' | sort -u
end
function __dyno_targets
    __dyno_apps
    __dyno_pairs
end

function __dyno_slugs
    timeout 2 dyno slug ls --json 2>/dev/null |
        string match -ra '"digest": ?"sha256:[0-9a-f]{12}' | string replace -r '.*:' ''
end

# Whether one of the commands is there, and no "--" yet.
function __dyno_in
    set -l words (commandline -opc)
    contains -- -- $words; and return 1
    for word in $words[2..-1]
        contains -- $word $argv; and return 0
    end
    return 1
end

set -l commands local run start scale restart pause resume resize stop ps top drain undrain logs events exec slug doctor version help

complete -c dyno -f
complete -c dyno -l socket -r -F -d 'Socket of the agent'
complete -c dyno -s h -l help -d 'Explain'
complete -c dyno -n "not __dyno_in $commands" -l version -d 'Print the version'
complete -c dyno -n "not __dyno_in $commands" -a local -d "Run an app's dynos here, as on the platform"
complete -c dyno -n "not __dyno_in $commands" -a run -d 'Run one command in a dyno of its own'
complete -c dyno -n "not __dyno_in $commands" -a start -d 'Release a slug as an app and start it'
complete -c dyno -n "not __dyno_in $commands" -a scale -d 'Change how many dynos run of a process type'
complete -c dyno -n "not __dyno_in $commands" -a restart -d 'Stop dynos and start them anew'
complete -c dyno -n "not __dyno_in $commands" -a pause -d 'Make dynos stand still'
complete -c dyno -n "not __dyno_in $commands" -a resume -d 'Let paused dynos run on'
complete -c dyno -n "not __dyno_in $commands" -a resize -d 'Give dynos another size while they run'
complete -c dyno -n "not __dyno_in $commands" -a top -d 'Watch what dynos use'
complete -c dyno -n "not __dyno_in $commands" -a stop -d 'Stop dynos until scale, restart or start'
complete -c dyno -n "not __dyno_in $commands" -a ps -d 'List dynos and how they are'
complete -c dyno -n "not __dyno_in $commands" -a drain -d 'Empty this instance'
complete -c dyno -n "not __dyno_in $commands" -a undrain -d 'Let dynos start here again'
complete -c dyno -n "not __dyno_in $commands" -a logs -d 'Show what the dynos wrote'
complete -c dyno -n "not __dyno_in $commands" -a events -d 'Show what happened, and whose doing it was'
complete -c dyno -n "not __dyno_in $commands" -a exec -d 'Run a command inside a running dyno'
complete -c dyno -n "not __dyno_in $commands" -a slug -d 'Make a slug, look into one, manage the cached ones'
complete -c dyno -n "not __dyno_in $commands" -a doctor -d 'What this machine offers'
complete -c dyno -n "not __dyno_in $commands" -a version -d 'Print the version'
complete -c dyno -n "not __dyno_in $commands" -a help -d 'Explain a command'

complete -c dyno -n '__dyno_in start scale restart pause resume resize stop ps top drain undrain logs events slug doctor' -l json -d 'As JSON'
complete -c dyno -n '__dyno_in local run start' -s e -l env -r -F -d 'Config vars'
complete -c dyno -n '__dyno_in local start' -s m -l formation -x -d 'Formation: web=2,worker=1'
complete -c dyno -n '__dyno_in local' -s f -l procfile -r -F -d 'Procfile'
complete -c dyno -n '__dyno_in local' -s p -l port -x -d 'Base port'
complete -c dyno -n '__dyno_in local run start' -l slug -r -F -d 'Slug'
complete -c dyno -n '__dyno_in run' -l app -x -a '(__dyno_apps)' -d 'Released app'
complete -c dyno -n '__dyno_in run start resize' -l size -x -a 'standard-1x standard-2x performance-m performance-l' -d Size
complete -c dyno -n '__dyno_in run exec' -s t -d 'Force a terminal'
complete -c dyno -n '__dyno_in run exec' -s T -d 'No terminal'
complete -c dyno -n '__dyno_in start fetch' -l digest -x -d 'sha256:HEX'
complete -c dyno -n '__dyno_in start drain fetch' -l no-wait -d 'Do not wait'
complete -c dyno -n '__dyno_in drain' -l deadline -x -d 'When the last one must be gone'
complete -c dyno -n '__dyno_in stop' -l forget -d 'Forget the app'
complete -c dyno -n '__dyno_in logs events' -s f -l follow -d Follow
complete -c dyno -n '__dyno_in logs events' -s n -l lines -x -d 'How many'
complete -c dyno -n '__dyno_in pack' -s o -l output -r -F -d 'Where to write'

complete -c dyno -n '__dyno_in top' -s n -x -d 'How many times, as text'
complete -c dyno -n '__dyno_in top' -s s -x -a 'memory cpu pids disk name' -d 'Sort by'

complete -c dyno -n '__dyno_in start scale ps top' -a '(__dyno_apps)'
complete -c dyno -n '__dyno_in restart pause resume resize stop logs' -a '(__dyno_targets)'
complete -c dyno -n '__dyno_in exec' -a '(__dyno_pairs)'
complete -c dyno -n '__dyno_in local run pack' -a '(__fish_complete_directories)'
complete -c dyno -n '__dyno_in slug; and not __dyno_in pack inspect ls fetch rm verify' -a 'pack inspect ls fetch rm verify'
complete -c dyno -n '__dyno_in rm verify' -a '(__dyno_slugs)'
complete -c dyno -n '__dyno_in fetch' -F
complete -c dyno -n '__dyno_in inspect' -F
complete -c dyno -n '__dyno_in help' -a "$commands"
