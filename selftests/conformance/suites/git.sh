# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# git on a repository of the lower layer.  What it says is the same on all kinds.

export HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost

# commit DIR NUMBER: a commit whose hash depends on nothing else
commit() {
	local date="$((1700000000 + $2)) +0000"
	git -C "$1" add -A &&
	GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date git -C "$1" commit -q -m "number $2"
}

# edit DIR NUMBER: changes some files, removes some, adds some
edit() {
	local file at=0
	while read -r file; do
		at=$((at + 1))
		case $(((at + $2) % 40)) in
		0) echo "line $2" >>"$1/$file" ;;
		1) rm "$1/$file" ;;
		2) mkdir -p "$1/new$2" && mv "$1/$file" "$1/new$2/file$at" ;;
		esac
	done < <(git -C "$1" ls-files)
}

fill_lower() {
	local number
	if [[ ! -d $SCRATCH/repository ]]; then
		git config --global init.defaultBranch main &&
		git config --global --add safe.directory '*' &&
		git init -q $SCRATCH/repository &&
		cp -r /usr/include/linux /usr/include/asm-generic $SCRATCH/repository/ || return
		for number in 1 2 3 4; do
			commit $SCRATCH/repository $number || return
			# some in a pack, some not
			((number != 2)) || git -C $SCRATCH/repository gc -q || return
			edit $SCRATCH/repository $number
		done
	fi
	cp -a $SCRATCH/repository "$1/repository"
}

run() {
	check status git -C repository status --porcelain
	same status.text git -C repository status --porcelain
	check commit commit repository 10
	same head git -C repository rev-parse HEAD
	check fsck git -C repository fsck --full --strict
	check clone.linked git clone -q repository linked
	check clone.copied git clone -q --no-local repository copied
	check clone.shared git clone -q --shared repository shared
	check clone.bare git clone -q --bare repository bare.git
	local clone
	for clone in linked copied shared bare.git; do
		check "fsck.$clone" git -C $clone fsck --full --strict
		same "head.$clone" git -C $clone rev-parse HEAD
	done
	check repack git -C repository repack -a -d -f -q
	check fsck.repacked git -C repository fsck --full --strict
	check gc git -C repository gc -q --aggressive --prune=now
	check fsck.collected git -C repository fsck --full --strict
	check branch git -C repository checkout -q -b other HEAD~2
	edit repository 20
	check branch.commit commit repository 20
	check checkout git -C repository checkout -q main
	check merge env GIT_AUTHOR_DATE='1700001000 +0000' GIT_COMMITTER_DATE='1700001000 +0000' \
		git -C repository merge -q -s ours -m merged other
	same head.merged git -C repository rev-parse HEAD
	check push git -C linked push -q origin HEAD:refs/heads/pushed
	check fetch git -C copied fetch -q
	check clean git -C repository clean -q -f -d -x
	check reset git -C repository reset -q --hard HEAD~1
	check worktree git -C repository worktree add -q ../tree other
	same tree git -C tree ls-files -s
	same status.clean git -C repository status --porcelain
	check fsck.last git -C repository fsck --full --strict
	check remove rm -r repository
}
