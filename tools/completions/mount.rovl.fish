# SPDX-License-Identifier: GPL-2.0

function __mount_rovl_options
    set -l given (commandline -ct)
    set -l head (string match -r '^.*,' -- $given)
    for option in lowerdir= lowerdir+= upperdir= workdir= userxattr default_permissions \
            nooverride_creds redirect_dir=off redirect_dir=nofollow redirect_dir=follow redirect_dir=on \
            index=off metacopy=off xino=off xino=auto xino=on nfs_export=off verity=off \
            uuid=off uuid=null uuid=auto uuid=on fsync=auto fsync=strict fsync=volatile \
            volatile ro rw nosuid nodev noexec noatime relatime
        echo $head$option
    end
    # the directories of the last list
    set -l last (string replace -r '^.*[=:]' '' -- $given)
    if string match -qr 'dir\+?=[^,]*$' -- $given
        set -l front (string replace -r '[^=:]*$' '' -- $given)
        for directory in (__fish_complete_directories $last '')
            echo $front$directory
        end
    end
end

complete -c mount.rovl -f -a '(__fish_complete_directories)'
complete -c mount.rovl -s o -x -d 'Mount options' -a '(__mount_rovl_options)'
complete -c mount.rovl -s t -x -d 'Filesystem type' -a 'rovl overlay'
complete -c mount.rovl -s N -r -F -d 'Mount namespace'
complete -c mount.rovl -s s -d 'Leave out options that the kernel does not know'
complete -c mount.rovl -s f -d 'Do all but mount'
complete -c mount.rovl -s v -d 'Say what was mounted'
complete -c mount.rovl -s n -d 'Does nothing'
