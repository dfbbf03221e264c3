# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ganeti_hookd_global_optspecs
    string join \n config= h/help V/version
end

function __fish_ganeti_hookd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ganeti_hookd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ganeti_hookd_using_subcommand
    set -l cmd (__fish_ganeti_hookd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -s h -l help -d 'Print help'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -s V -l version -d 'Print version'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "run" -d 'Run the daemon in the foreground'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "replay" -d 'Play a recording and print the events it holds'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "record" -d 'Record the live queue, to replay it elsewhere'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "status" -d 'Show how the daemon is doing'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "metrics" -d 'Print metrics in Prometheus\' text format'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "events" -d 'Show the history of events and hook runs'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "report" -d 'Write what has happened as a page for a ticket, or count it in a table'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "timeline" -d 'Draw jobs on a time axis'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "env" -d 'Show the environment that a hook would get'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "rerun" -d 'Run an event\'s scripts again'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "wait" -d 'Wait for a job to end'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "locks" -d 'Show which locks jobs wait for, who has them, and whether the holder lives'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "outbox" -d 'Show, try out and set going where events are pushed to ([[outbox]] in hookd.toml)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "check" -d 'Check configuration, permissions and system; say what to do about each finding'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "release" -d 'Let every job process go on that a daemon which is gone has left stopped'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand run" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l hooks -d 'Run the hook scripts in the directories below DIR (default: the configured hooks-dir), as the daemon would on the master, and add what became of them (`runs`) to each event' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l speed -d 'Play as fast as it happened (1), twice as fast (2), ...; default: as fast as it goes' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l live -d 'Play the files into this directory, for a daemon whose queue-dir, data-dir and ganeti-run-dir it is, with a process for each job process; at speed 1 unless told otherwise' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -s o -l output -d 'Fields to show, separated by commas; +FIELD adds to the usual ones' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l separator -d 'Separate columns by this text instead of lining them up' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l units -d 'Show durations for people (h: 30ms, 1.5s, 4m10s) or in seconds (s); default: h, with --separator s' -r -f -a "h\t'For people'
s\t'In seconds'"
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l json -d 'Print JSON Lines, also on a terminal'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l env -d 'Add the hooks\' environment (`env`) and nodes (`nodes`, master first) to each event; prints JSON Lines'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l no-headers -d 'Print no line of column titles'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -l utc -d 'Show times in UTC, not in the system\'s time zone; times that are given are UTC, too'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand record" -l out -d 'The file to write; it must not exist yet' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand record" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand record" -l with-secrets -d 'Record the values of private and secret OS parameters and of passwords, too'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand record" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand status" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand status" -l json -d 'Print JSON'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand status" -l metrics -d 'Print metrics in Prometheus\' text format'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand status" -l nagios -d 'Print one line for Nagios, with performance data; the exit code is 0 for OK, 1 for WARNING, 2 for CRITICAL, 3 for UNKNOWN'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand status" -l utc -d 'Show times in UTC, not in the system\'s time zone; times that are given are UTC, too'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand metrics" -l textfile -d 'Write them into this file, whose name ends in .prom' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand metrics" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l job -d 'Only events of this job' -r -f -a '(ganeti-hookd complete job (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l object -d 'Only events about this object: NAME, KIND/NAME or KIND/' -r -f -a '(ganeti-hookd complete object (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l op-code -d 'Only events of this opcode; * stands for any text' -r -f -a '(ganeti-hookd complete opcode (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l status -d 'Only posts of opcodes that ended so' -r -f -a "succeeded\t''
failed\t''
disappeared\t''"
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l since -d 'Only events noticed then or later: 2h or 3d ago, "2026-11-28 14:00", or RFC 3339' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l until -d 'Only events noticed before then' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l reason -d 'Only events with this text in Ganeti\'s reason trail, in any case' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -s o -l output -d 'Fields to show, separated by commas; +FIELD adds to the usual ones' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l separator -d 'Separate columns by this text instead of lining them up' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l units -d 'Show durations for people (h: 30ms, 1.5s, 4m10s) or in seconds (s); default: h, with --separator s' -r -f -a "h\t'For people'
s\t'In seconds'"
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l failed -d 'Only events with a hook run that failed'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -s f -l follow -d 'Go on: print each event when its hooks have ended, and again when they were run again'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l json -d 'Print JSON Lines, with all runs and their output'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l no-headers -d 'Print no line of column titles'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -l utc -d 'Show times in UTC, not in the system\'s time zone; times that are given are UTC, too'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l job -d 'Only events of this job' -r -f -a '(ganeti-hookd complete job (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l object -d 'Only events about this object: NAME, KIND/NAME or KIND/' -r -f -a '(ganeti-hookd complete object (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l op-code -d 'Only events of this opcode; * stands for any text' -r -f -a '(ganeti-hookd complete opcode (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l status -d 'Only posts of opcodes that ended so' -r -f -a "succeeded\t''
failed\t''
disappeared\t''"
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l since -d 'Only events noticed then or later: 2h or 3d ago, "2026-11-28 14:00", or RFC 3339' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l until -d 'Only events noticed before then' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l reason -d 'Only events with this text in Ganeti\'s reason trail, in any case' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l by -d 'Count by this' -r -f -a "op-code\t'The opcode\'s type'
object\t'What the opcode is about'
reason\t'The user\'s own reason, or the last of the trail'
day\t'The day on which the event was noticed'
event\t'Nothing is counted: a line an event'"
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l format -d 'How a table is written' -r -f -a "text\t'Columns that are lined up'
csv\t'Comma-separated values'
json\t'An object a line'"
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l out -d 'The file to write: for its owner alone, complete or not at all; a file that is there is replaced' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l separator -d 'Separate columns by this text instead of lining them up' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l failed -d 'Only events with a hook run that failed'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l no-headers -d 'Print no line of column titles'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -l utc -d 'Show times in UTC, not in the system\'s time zone; times that are given are UTC, too'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l last -d 'Only so many jobs, those submitted last' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l job -d 'Only events of this job' -r -f -a '(ganeti-hookd complete job (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l object -d 'Only events about this object: NAME, KIND/NAME or KIND/' -r -f -a '(ganeti-hookd complete object (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l op-code -d 'Only events of this opcode; * stands for any text' -r -f -a '(ganeti-hookd complete opcode (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l status -d 'Only posts of opcodes that ended so' -r -f -a "succeeded\t''
failed\t''
disappeared\t''"
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l since -d 'Only events noticed then or later: 2h or 3d ago, "2026-11-28 14:00", or RFC 3339' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l until -d 'Only events noticed before then' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l reason -d 'Only events with this text in Ganeti\'s reason trail, in any case' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l failed -d 'Only events with a hook run that failed'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -l utc -d 'Show times in UTC, not in the system\'s time zone; times that are given are UTC, too'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand env" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand env" -l native -d 'As the opcode\'s own post hooks get it where hooks.native-post has them run'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand env" -l json -d 'Print a JSON object'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand env" -s 0 -l null -d 'End each variable with a NUL instead of a line\'s end'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand env" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l script -d 'Only this node\'s script of this name; otherwise those of all nodes that had them run' -r -f -a '(ganeti-hookd complete script (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l since -d 'Only events noticed then or later: 2h or 3d ago, "2026-11-28 14:00", or RFC 3339' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l until -d 'Only events noticed before then' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l separator -d 'Separate columns by this text instead of lining them up' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l failed -d 'All events of which some script failed, and has not run well since'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l dry-run -d 'With --failed: only show which events that are, and what failed'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l no-wait -d 'Do not wait until the scripts have ended'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l utc -d 'Show times in UTC, not in the system\'s time zone; times that are given are UTC, too'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -l no-headers -d 'Print no line of column titles'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand wait" -l timeout -d 'Wait this long at most: 90s, 5m, 1h' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand wait" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand locks" -l longer -d 'Only jobs that wait for longer: 30s, 5m' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand locks" -l separator -d 'Separate columns by this text instead of lining them up' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand locks" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand locks" -l json -d 'Print JSON Lines; times are seconds'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand locks" -l no-headers -d 'Print no line of column titles'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand locks" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and not __fish_seen_subcommand_from list test resend enable help" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and not __fish_seen_subcommand_from list test resend enable help" -s h -l help -d 'Print help'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and not __fish_seen_subcommand_from list test resend enable help" -f -a "list" -d 'List the outboxes and how they are, as the daemon says'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and not __fish_seen_subcommand_from list test resend enable help" -f -a "test" -d 'Send a signed event of the type org.ganeti.hookd.ping, and print what comes back'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and not __fish_seen_subcommand_from list test resend enable help" -f -a "resend" -d 'Have events sent again, and the receiver tried at once'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and not __fish_seen_subcommand_from list test resend enable help" -f -a "enable" -d 'Have an outbox send again whose receiver has answered 410'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and not __fish_seen_subcommand_from list test resend enable help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from list" -l separator -d 'Separate columns by this text instead of lining them up' -r
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from list" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from list" -l utc -d 'Show times in UTC, not in the system\'s time zone; times that are given are UTC, too'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from list" -l no-headers -d 'Print no line of column titles'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from test" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from resend" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from resend" -s h -l help -d 'Print help'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from enable" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from enable" -s h -l help -d 'Print help'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the outboxes and how they are, as the daemon says'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from help" -f -a "test" -d 'Send a signed event of the type org.ganeti.hookd.ping, and print what comes back'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from help" -f -a "resend" -d 'Have events sent again, and the receiver tried at once'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from help" -f -a "enable" -d 'Have an outbox send again whose receiver has answered 410'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand outbox; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand check" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand check" -l json -d 'Print JSON Lines'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand release" -l config -d 'The configuration file' -r -F
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand release" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "run" -d 'Run the daemon in the foreground'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "replay" -d 'Play a recording and print the events it holds'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "record" -d 'Record the live queue, to replay it elsewhere'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "status" -d 'Show how the daemon is doing'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "metrics" -d 'Print metrics in Prometheus\' text format'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "events" -d 'Show the history of events and hook runs'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "report" -d 'Write what has happened as a page for a ticket, or count it in a table'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "timeline" -d 'Draw jobs on a time axis'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "env" -d 'Show the environment that a hook would get'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "rerun" -d 'Run an event\'s scripts again'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "wait" -d 'Wait for a job to end'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "locks" -d 'Show which locks jobs wait for, who has them, and whether the holder lives'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "outbox" -d 'Show, try out and set going where events are pushed to ([[outbox]] in hookd.toml)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "check" -d 'Check configuration, permissions and system; say what to do about each finding'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "release" -d 'Let every job process go on that a daemon which is gone has left stopped'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and not __fish_seen_subcommand_from run replay record status metrics events report timeline env rerun wait locks outbox check release help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and __fish_seen_subcommand_from outbox" -f -a "list" -d 'List the outboxes and how they are, as the daemon says'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and __fish_seen_subcommand_from outbox" -f -a "test" -d 'Send a signed event of the type org.ganeti.hookd.ping, and print what comes back'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and __fish_seen_subcommand_from outbox" -f -a "resend" -d 'Have events sent again, and the receiver tried at once'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand help; and __fish_seen_subcommand_from outbox" -f -a "enable" -d 'Have an outbox send again whose receiver has answered 410'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand timeline" -f -a '(ganeti-hookd complete subject (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand env" -f -a '(ganeti-hookd complete job (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand rerun" -f -a '(ganeti-hookd complete event (commandline -ct) 2>/dev/null)'
complete -c ganeti-hookd -n "__fish_ganeti_hookd_using_subcommand wait" -f -a '(ganeti-hookd complete job (commandline -ct) 2>/dev/null)'
