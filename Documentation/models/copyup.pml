// SPDX-License-Identifier: GPL-2.0
/*
 * The copy-up protocol of rovl, for spin. copyup.rst in this directory says which
 * line stands for which step of the code, which assertion for which row of the
 * race table, how to run it, and how to add to it.
 *
 * The world: an upper directory D with the names f, g, h, e. In the lower layer
 * are f and e; g is a file of the upper layer. Everything that another task can
 * see between two steps of the code is a step here; what happens under one
 * acquisition of a lock that nobody else looks past is one step.
 *
 * What takes part is chosen by macros:
 *
 *   COPIERS=n   tasks that open f for writing (at least 1, at most 3)
 *   CHMOD       the second of them changes attributes: it holds the inode's lock
 *   UNLINKER    unlink(f)
 *   OVER        rename(g, f)
 *   AWAY        rename(f, h), which copies f up itself if nobody has
 *   LINKER      link(f, /k), likewise
 *   MANY_NAMES  the lower file of f has another name, and so a link count of 2
 *   READER      open(f, O_RDONLY), two reads
 *   FREEZER     freezes and thaws the upper filesystem
 *   KILLER      kills one of those who may copy, all, or none, at any moment
 *   FAILURES    each step of a copy may fail (ENOSPC, EIO, ENOMEM, ...)
 *   STALL       the first copier may stand still for ever in mid-data
 *   TEMP_NAME   the upper filesystem has no ->tmpfile
 *   ANCESTORS   D is in the lower layer only; the first copier wants e instead of f
 *   PARENT      unlink(f), then rmdir(D); there is no e then
 *   FORGETTER   the VFS forgets the name f at some moment, as when a lower
 *               filesystem does not answer; f is still there
 *   STRANGER    somebody puts a file at f, in the upper layer and behind the
 *               overlay's back
 *   CHUNKS=n    how many chunks of data a file has
 *
 * and MUTANT_... takes one thing out of the protocol.
 */

#ifndef COPIERS
#define COPIERS 2
#endif
#ifndef CHUNKS
#define CHUNKS 2
#endif
#if defined(AWAY) + defined(LINKER) + defined(PARENT) > 1
#error AWAY, LINKER and PARENT are the same task
#endif

#ifdef CHMOD
#define SECOND_LOCKS	true
#else
#define SECOND_LOCKS	false
#endif
#if defined(ANCESTORS) && !defined(PARENT)
#define FIRST_WANTS	E
#else
#define FIRST_WANTS	F
#endif

/* Results. */
#define OK	0
#define FAILED	1	/* a step of a copy failed: ENOSPC, EIO, ENOMEM, ... */
#define EINTR	2
#define ENOENT	3
#define ESTALE	4

/* Objects. */
#define NO_OBJECT	0
#define F	1
#define E	2
#define D	3
#define G	4	/* has been in the upper layer from the beginning */
#define OBJECTS	5

/* Names. */
#define NAME_F	0
#define NAME_G	1
#define NAME_H	2
#define NAME_E	3
#define NAME_D	4	/* in the root */
#define NAME_K	5	/* in the root */
#define NAMES	6
#define NO_NAME	6

/* Tasks that can lead a copy: the copiers, then that of AWAY, LINKER or PARENT. */
#define MOVER	COPIERS
#define TASKS	(COPIERS + 1)

/* What an upper name holds: nothing, a copy (a small number) or one of these. */
#define NOTHING		0
#define WHITEOUT	100
#define FILE_G		101
#define DIRECTORY_D	102
#define FILE_OF_OTHERS	103

/* The copy that a task makes of an object; none leads twice for one object. */
#define COPIES		(2 * TASKS + 1)
#define copy_of(o, task)	(1 + task + (o == D -> TASKS : 0))
#define is_copy(x)	(x > NOTHING && x < COPIES)

/* --- The overlay ---------------------------------------------------------------- */

byte at[NAMES];			/* which object the overlay's dentry of a name is */
bool forgotten;			/* that of f is unhashed, and nobody has removed f */
byte upper[OBJECTS];		/* OverlayInode::upper; NOTHING until announced */
bool lost_name[OBJECTS];	/* OverlayInode::lost_name */
bool overlay_dir_locked;	/* i_rwsem of the overlay's D */
bool inode_locked;		/* i_rwsem of the overlay's f */
byte nlink;			/* i_nlink of the overlay's f */

byte table[OBJECTS];		/* InFlight: the record in flight, 0 if none */
bool ended[COPIES];		/* Record::ended, by the copy it is for */

/* --- The upper filesystem ------------------------------------------------------- */

#define DIR_ROOT	0
#define DIR_D		1
byte in_upper[NAMES];		/* what each name holds */
byte locked_by[2];		/* i_rwsem of the two directories: task + 1, 0 if free */
byte writers;			/* how many hold freeze protection */
bool frozen;			/* no new ones */
bool dead;			/* D has been removed */

typedef Copy {
	byte chunks;		/* of its data */
	bool whole_metadata;
	bool temp;		/* has a name in work/ */
	byte links;		/* how many names it has in the tree */
}
Copy copy[COPIES];

/* --- Ghosts: for assertions only ------------------------------------------------ */

bool killed[TASKS];
bool copying[OBJECTS];		/* somebody leads a copy of it */
bool written;			/* a copier that had f open has written to it */
bool strange;			/* somebody has put something at f */

#define dir_of(name)	(name == NAME_D || name == NAME_K -> DIR_ROOT : DIR_D)
#define name_of(o)	(at[NAME_F] == o -> NAME_F : (at[NAME_H] == o -> NAME_H : \
			(at[NAME_E] == o -> NAME_E : (at[NAME_D] == o -> NAME_D : NO_NAME))))

/* Whether a copy of it gets no name. */
#if defined(MUTANT_UNHASHED_IS_REMOVED)
#define has_lost_name(o)	(name_of(o) == NO_NAME || (o == F && forgotten))
#elif defined(MUTANT_DENTRY_SAYS_REMOVED)
#define has_lost_name(o)	(name_of(o) == NO_NAME)
#else
#define has_lost_name(o)	(lost_name[o])	/* OverlayInode::has_lost_name */
#endif
#define is_whole(c)	(copy[c].whole_metadata && \
			(copy[c].chunks == CHUNKS || (c > TASKS)))

#ifdef FAILURES
#define OR_FAILS :: d_step { result = FAILED; own_fault = true }
#else
#define OR_FAILS
#endif

/* --- Locks of the upper filesystem, as in vfs/lock.rs ------------------------------ */

inline want_write()		/* Context::want_write */
{
	atomic {
		!frozen;
		assert(!access);	/* R9: else it would wait for itself */
		writers++;
		access = true
	}
}

inline drop_write()
{
	d_step {
		writers--;
		access = false;
		moved = 0
	}
}

inline lock_directory(dir)	/* WriteAccess::lock_name, lock_rename */
{
	atomic {
		locked_by[dir] == 0;
		locked_by[dir] = me + 1
	}
}

inline unlock_directory(dir)
{
	locked_by[dir] = 0
}

/* --- The engine: copyup.rs and copyup/ --------------------------------------------- */

/* copy_up_extent: the ancestors first, then the object. */
inline copy_up(wanted)
{
	do
	:: result != OK || upper[wanted] != NOTHING -> break
	:: else ->
		if		/* topmost_lower */
		:: has_lost_name(wanted) || upper[D] != NOTHING -> o = wanted
		:: else -> o = D
		fi;
		copy_up_one()
	od;
#ifdef MUTANT_WAITER_ASSUMES_SUCCESS
waited:
#endif
	o = NO_OBJECT;
	/* R2: who is told "done" finds a copy. */
	assert(result != OK || upper[wanted] != NOTHING)
}

inline copy_up_one()
{
	do
	:: upper[o] != NOTHING -> break
	:: else ->
		/* Step 1: InFlight::enter. */
		record = table[o];
		if
		:: record != 0
		:: else ->
			/* The record and its node are allocated with no lock held. */
			if
			:: skip
			OR_FAILS
			fi;
			if
			:: result != OK -> break
			:: else
			fi;
			d_step {
				c = copy_of(o, me);
#ifdef MUTANT_ENTER_WITHOUT_SECOND_LOOK
				record = 0;
#else
				record = table[o];
#endif
				if
				:: record == 0 && upper[o] == NOTHING -> table[o] = c
				:: else -> c = NOTHING
				fi
			}
		fi;
		if
		:: record != 0 ->
			/* Record::wait. */
#ifdef STALL
end_waits:
#endif
			if
			:: ended[record]
			:: killed[me] -> result = EINTR
			fi;
			record = 0;
#ifdef MUTANT_WAITER_ASSUMES_SUCCESS
			goto waited;
#endif
#ifdef MUTANT_WAITER_INHERITS_FAILURE
			if
			:: upper[o] == NOTHING && result == OK -> result = FAILED
			:: else
			fi;
#endif
			if
			:: result != OK -> break
			:: else		/* look at the object again */
			fi
		:: record == 0 && c == NOTHING -> break	/* done just now */
		:: else ->
			lead_copy();
			c = NOTHING;
			break
		fi
	od;
	skip
}

inline end_record()	/* Leadership::drop */
{
	d_step {
		copying[o] = false;
		table[o] = 0
	};
	ended[c] = true
}

inline lead_copy()
{
	d_step {
		/* R2: one copy of an object at a time. */
		assert(!copying[o]);
		copying[o] = true
	};
	create_nameless();
	if
	:: result == OK && o != D -> copy_data()
	:: else
	fi;
	if
	:: result == OK -> copy_metadata()
	:: else
	fi;
	if
	:: result == OK -> publish()
	:: else
	fi;
	if
	:: result != OK && copy[c].temp -> discard()
	:: else
	fi;
#ifndef MUTANT_RECORD_ENDS_BEFORE_ANNOUNCE
	end_record()
#else
	if
	:: !ended[c] -> end_record()
	:: else
	fi
#endif
}

/* Step 2. A directory never is nameless: create_temp. */
inline create_nameless()
{
	want_write();
	if
#ifdef TEMP_NAME
	:: copy[c].temp = true
#else
	:: copy[c].temp = (o == D)
#endif
	OR_FAILS
	fi;
	drop_write()
}

/* Step 3. */
inline copy_data()
{
#ifdef MUTANT_FREEZE_HELD_DURING_DATA
	want_write();
#endif
#ifdef MUTANT_PARENT_LOCKED_DURING_DATA
	want_write();
	lock_directory(DIR_D);
	drop_write();
#endif
	do
	:: copy[c].chunks == CHUNKS -> break
	:: else ->
#ifdef STALL
		if
		:: me == 0 ->
end_stands_still:	killed[me]
		:: true
		fi;
#endif
		if
		:: killed[me] -> result = EINTR; break
		:: else
		fi;
#ifndef STALL
		/* R1, R3: no lock of the upper filesystem is held while data moves. */
		assert(locked_by[DIR_ROOT] != me + 1 && locked_by[DIR_D] != me + 1);
#endif
#ifndef MUTANT_FREEZE_HELD_DURING_DATA
		want_write();
#endif
		if
		:: d_step {
			copy[c].chunks++;
			moved++;
#ifndef STALL
			/* R9: who freezes waits for one chunk. */
			assert(moved == 1)
#endif
		}
		OR_FAILS
		fi;
#ifndef MUTANT_FREEZE_HELD_DURING_DATA
		drop_write();
#endif
		if
		:: result != OK -> break
		:: else
		fi
	od;
#ifdef MUTANT_FREEZE_HELD_DURING_DATA
	drop_write();
#endif
#ifdef MUTANT_PARENT_LOCKED_DURING_DATA
	unlock_directory(DIR_D);
#endif
	skip
}

/* Step 4, and the fsync at its end. */
inline copy_metadata()
{
	want_write();
	if
	:: copy[c].whole_metadata = true
	OR_FAILS
	fi;
	drop_write();
	if
	:: result == OK ->
		if
		:: skip		/* fsync */
		OR_FAILS
		fi
	:: else
	fi
}

/* Step 5. */
inline publish()
{
#ifndef MUTANT_LOCK_BEFORE_FREEZE
	want_write();
#endif
	if			/* Copy::place */
	:: has_lost_name(o)
	:: else -> place = name_of(o)
	fi;
	if
	:: place != NO_NAME ->
		if
		:: skip		/* set_impure */
		OR_FAILS
		fi
	:: else
	fi;
	if
	:: place != NO_NAME && result == OK ->
#ifdef MUTANT_ANNOUNCE_BEFORE_LINK
		set_upper();
#endif
		lock_directory(dir_of(place));	/* start_creating, start_renaming */
#ifdef MUTANT_LOCK_BEFORE_FREEZE
		want_write();
#endif
		link_at();
#ifndef MUTANT_ANNOUNCE_UNLOCKED
		if
		:: copy[c].links != 0 -> announce()
		:: else
		fi;
#endif
		unlock_directory(dir_of(place))
	:: else
#ifdef MUTANT_LOCK_BEFORE_FREEZE
		-> want_write()
#endif
	fi;
	if
	:: result == OK && upper[o] != c && copy[c].links == 0 ->
		d_step {	/* keep_nameless */
			/* R8: who removes a directory waits until it is copied. */
			assert(o != D);
			/* R1, R3: only what has been removed; else what is written to
			 * the copy would be lost. */
			assert(lost_name[o]);
			copy[c].temp = false
		}
	:: else
	fi;
	/* A copy without a name; in the mutant, any. */
	if
	:: result == OK && upper[o] != c -> announce()
	:: else
	fi;
	drop_write();
	place = NO_NAME
}

#ifndef MUTANT_NO_FRESH_LOOKUP
#define name_is_taken	(in_upper[place] != NOTHING)
#else
#define name_is_taken	false
#endif
#ifndef MUTANT_NO_LIVES_CHECK
#define lives_at_place	(!has_lost_name(o))	/* Copy::lives_at */
#else
#define lives_at_place	true
#endif

/* With the directory locked: a fresh look, and the link or rename. */
inline link_at()
{
	if
	:: (dir_of(place) == DIR_D && dead) || name_is_taken || !lives_at_place ->
		if			/* Copy::is_taken */
		:: !has_lost_name(o) -> result = ESTALE
		:: else
		fi
	:: else ->
		/* R4: what is not in the upper layer is not moved: its dentry says
		 * where it lives. */
		assert(lost_name[o] || at[place] == o);
		/* R1, R3: nothing is put over what another has put there. */
		assert(in_upper[place] == NOTHING);
		if
		:: d_step {
			in_upper[place] = c;
			copy[c].links = 1;
			copy[c].temp = false;
			/* R5, R6: what has a name is whole, and has its origin. */
			assert(is_whole(c))
		}
		OR_FAILS
		fi
	fi
}

/* Step 6. */
inline announce()
{
#ifdef MUTANT_RECORD_ENDS_BEFORE_ANNOUNCE
	end_record();
#endif
#ifndef MUTANT_ANNOUNCE_BEFORE_LINK
	set_upper()
#else
	if
	:: upper[o] != c -> set_upper()
	:: else
	fi
#endif
}

inline set_upper()	/* inode::set_upper */
{
#ifndef MUTANT_ANNOUNCE_BEFORE_ATTRIBUTES
	take_over_attributes();
#endif
	d_step {
		/* R2: an object is announced once. */
		assert(upper[o] == NOTHING);
		/* R5: and whole. */
		assert(is_whole(c));
		upper[o] = c
	}
#ifdef MUTANT_ANNOUNCE_BEFORE_ATTRIBUTES
	;
	take_over_attributes()
#endif
}

/* One of several names of a lower file is a file of its own now. */
inline take_over_attributes()
{
	d_step {
		if
		:: o == F && nlink > 1 -> nlink = 1
		:: else
		fi
	}
}

/* The copy came to nothing: Nameless::discard, Temp::discard. */
inline discard()
{
#ifndef MUTANT_FAILURE_LEAVES_TEMP
	want_write();
	copy[c].temp = false;
	drop_write()
#else
	skip
#endif
}

/* --- Those who copy ----------------------------------------------------------------- */

#define ENGINE_LOCALS \
	byte result = OK; \
	byte o = NO_OBJECT; \
	byte c = NOTHING; \
	byte record = 0; \
	byte place = NO_NAME; \
	byte moved = 0; \
	bool access = false; \
	bool own_fault = false

/* open(O_RDWR), or with `locks` chmod(). */
proctype copier(byte me, wanted; bool locks)
{
	ENGINE_LOCALS;

	if
	:: at[(wanted == F -> NAME_F : NAME_E)] == wanted
	:: else -> goto done		/* the walk finds nothing, or g */
	fi;
	if
	:: locks -> atomic { !inode_locked; inode_locked = true }
	:: else
	fi;
	copy_up(wanted);
	/* R1, R2, R3: to lose the name is no error, nor to come second. */
	assert(result != ESTALE || strange);
	/* R2, R12: an error is one's own. */
	assert(result == ESTALE ||
	       result == OK || (result == EINTR && killed[me]) ||
	       (result == FAILED && own_fault));
	if
	:: result == OK && wanted == F -> written = true
	:: else
	fi;
	if
	:: locks -> inode_locked = false
	:: else
	fi;
done:	skip
}

/* --- Those who change names: namespace.rs --------------------------------------------- */

/* With a directory locked: the name is free, or holds what the overlay has there. */
#define check_same(name, object)	(in_upper[name] == upper[object])

inline vfs_lock_directory()
{
	atomic { !overlay_dir_locked; overlay_dir_locked = true }
}

/* The VFS locks the file that loses its name, or changes it. */
inline vfs_lock_inode(object)
{
	if
	:: object == F -> atomic { !inode_locked; inode_locked = true }
	:: else
	fi
}

inline vfs_unlock(object)
{
	d_step {
		if
		:: object == F -> inode_locked = false
		:: else
		fi;
		overlay_dir_locked = false
	}
}

inline lost_a_name(object)
{
	d_step {
		if
		:: upper[object] == NOTHING -> lost_name[object] = true
		:: else
		fi;
		if
		:: object != F
		:: object == F && upper[F] != NOTHING -> nlink = copy[upper[F]].links
		:: else -> nlink = (nlink == 0 -> 0 : nlink - 1)
		fi
	}
}

/* unlink(f): DirOperations::remove, Place::whiteout. */
inline unlink_f()
{
	vfs_lock_directory();
	object = at[NAME_F];
	if
	:: object == NO_OBJECT -> result = ENOENT
	:: else ->
		vfs_lock_inode(object);
		want_write();
		lock_directory(DIR_D);
		if
		:: in_upper[NAME_F] == NOTHING ->
			in_upper[NAME_F] = WHITEOUT;
			lost_a_name(object);
			unlock_directory(DIR_D)
		:: else ->
			/* R1: else it is ESTALE, "somebody changed the layer under us". */
			assert(check_same(NAME_F, object));
			unlock_directory(DIR_D);
			/* whiteout::replace */
			lock_directory(DIR_D);
			d_step {
				if
				:: is_copy(in_upper[NAME_F]) ->
					copy[in_upper[NAME_F]].links--
				:: else
				fi;
				in_upper[NAME_F] = WHITEOUT
			};
			unlock_directory(DIR_D);
			lost_a_name(object)
		fi;
		drop_write();
		/* The VFS comes to d_delete when it likes; nobody waits for it. */
		at[NAME_F] = NO_OBJECT
	fi;
	vfs_unlock(object);
	object = NO_OBJECT
}

#ifdef UNLINKER
proctype unlinker()
{
	byte me = TASKS, object, result, moved;
	bool access;

	unlink_f()
}
#endif

#ifdef PARENT
/* rmdir(D) after unlink(f): whiteout::replace, remove_dir. */
proctype remover()
{
	byte me = MOVER;
	byte object;
	ENGINE_LOCALS;

	copy_up(D);			/* Place::prepare */
	if
	:: result != OK -> goto done
	:: else
	fi;
	unlink_f();
	/* D is empty: the VFS has its parent and itself locked. */
	vfs_lock_directory();
	want_write();
	lock_directory(DIR_ROOT);
	d_step {
		if
		:: is_copy(in_upper[NAME_D]) -> copy[in_upper[NAME_D]].links--
		:: else
		fi;
		in_upper[NAME_D] = WHITEOUT	/* and D is in work/ now */
	};
	unlock_directory(DIR_ROOT);
	lock_directory(DIR_D);		/* clear() */
	in_upper[NAME_F] = NOTHING;
	unlock_directory(DIR_D);
	lock_directory(DIR_D);		/* remove_temp() */
	/* R12: a directory with something in it would be left in work/. */
	assert(in_upper[NAME_F] == NOTHING);
	dead = true;
	unlock_directory(DIR_D);
	drop_write();
	at[NAME_D] = NO_OBJECT;
	vfs_unlock(D);
done:	skip
}
#endif

#ifdef OVER
/* rename(g, f): Rename::move_upper. */
proctype over()
{
	byte me = TASKS + 1, object, result, moved;
	bool access;

	vfs_lock_directory();
	object = at[NAME_F];
	vfs_lock_inode(object);
	want_write();
	lock_directory(DIR_D);
	if
	:: in_upper[NAME_F] == NOTHING || in_upper[NAME_F] == WHITEOUT
	:: else ->
		/* R3: else it is ESTALE. */
		assert(object != NO_OBJECT && check_same(NAME_F, object));
		copy[in_upper[NAME_F]].links--
	fi;
	d_step {
		in_upper[NAME_F] = FILE_G;
		in_upper[NAME_G] = NOTHING
	};
	lost_a_name(object);
	unlock_directory(DIR_D);
	drop_write();
	d_step {
		at[NAME_F] = G;			/* d_move, when the VFS likes */
		at[NAME_G] = NO_OBJECT
	};
	vfs_unlock(object)
}
#endif

#ifdef AWAY
/* rename(f, h): the object, if it is f's, is copied up first. */
proctype away()
{
	byte me = MOVER;
	byte object;
	ENGINE_LOCALS;

	vfs_lock_directory();
	object = at[NAME_F];
	if
	:: object == NO_OBJECT -> result = ENOENT
	:: else ->
		vfs_lock_inode(object);
		if
		:: object == F -> copy_up(F)
		:: else
		fi;
		/* R2, R4. */
		assert(result == OK || (result == EINTR && killed[me]) || (result == FAILED && own_fault));
		if
		:: result == OK ->
			want_write();
			lock_directory(DIR_D);
			/* R4: what is moved is the object, and nothing is lost. */
			assert(check_same(NAME_F, object));
			d_step {
				in_upper[NAME_H] = in_upper[NAME_F];
				in_upper[NAME_F] = WHITEOUT	/* RENAME_WHITEOUT */
			};
			unlock_directory(DIR_D);
			drop_write();
			d_step {
				at[NAME_H] = object;		/* d_move */
				at[NAME_F] = NO_OBJECT
			}
		:: else
		fi
	fi;
	vfs_unlock(object)
}
#endif

#ifdef LINKER
/* link(f, /k): the object is copied up first. */
proctype linker()
{
	byte me = MOVER;
	ENGINE_LOCALS;

	if
	:: at[NAME_F] == F
	:: else -> goto done
	fi;
	atomic { !inode_locked; inode_locked = true };
	if
	:: nlink == 0 -> goto unlock		/* vfs_link */
	:: else
	fi;
	copy_up(F);
	/* R2, R7. */
	assert(result == OK || (result == EINTR && killed[me]) || (result == FAILED && own_fault));
	if
	:: result == OK ->
		want_write();
		lock_directory(DIR_ROOT);
		if
#ifdef TEMP_NAME
		:: copy[upper[F]].links == 0 -> result = ENOENT
#endif
		:: else -> d_step {
			in_upper[NAME_K] = upper[F];
			copy[upper[F]].links++
		}
		fi;
		unlock_directory(DIR_ROOT);
		drop_write();
		if
		:: result == OK ->
			nlink = copy[upper[F]].links;
			at[NAME_K] = F			/* d_instantiate */
		:: else
		fi
	:: else
	fi;
unlock:	inode_locked = false;
done:	skip
}
#endif

/* --- Those who look --------------------------------------------------------------------- */

#ifdef READER
/* open(f, O_RDONLY), a read, and another one: file.rs. No step of it can wait. */
proctype reader()
{
	byte first, second;
	bool saw;

	if
	:: at[NAME_F] == F
	:: else -> goto done
	fi;
	first = upper[F];		/* inode::real */
	/* R5: the lower file, or the whole copy. */
	assert(first == NOTHING || is_whole(first));
	saw = written;
#ifdef MUTANT_READER_KEEPS_FILE
	second = first;
#else
	second = upper[F];		/* backing() */
#endif
	/* R5, R15: once written to, it is the copy that is read, and one copy. */
	assert(!saw || second != NOTHING);
	assert(first == NOTHING || first == second);
done:	skip
}
#endif

#ifdef FORGETTER
/* d_invalidate(): who looks for f finds the same object again. */
proctype forgetter()
{
	forgotten = true
}
#endif

#ifdef STRANGER
proctype stranger()
{
	byte me = TASKS + 1;

	lock_directory(DIR_D);
	if
	:: in_upper[NAME_F] == NOTHING ->
		strange = true;
		in_upper[NAME_F] = FILE_OF_OTHERS
	:: else
	fi;
	unlock_directory(DIR_D)
}
#endif

#ifdef FREEZER
/* freeze_super() and thaw_super() of the upper filesystem. */
proctype freezer()
{
	frozen = true;
	writers == 0;		/* R9: comes true, or this is an invalid end state */
	frozen = false
}
#endif

#ifdef KILLER
proctype killer()
{
	if
	:: killed[0] = true
	:: killed[COPIERS - 1] = true
	:: killed[MOVER] = true
	:: d_step { killed[0] = true; killed[COPIERS - 1] = true; killed[MOVER] = true }
	:: skip
	fi
}
#endif

/* --- The beginning and the end ------------------------------------------------------------ */

/* What a fresh look through the layers finds at a name is what the overlay says. */
inline check_name(name, is_in_lower)
{
	if
	:: at[name] == NO_OBJECT ->
		/* R1: a whiteout and nothing else; nothing where nothing is below. */
		assert(in_upper[name] == (is_in_lower -> WHITEOUT : NOTHING))
	:: at[name] == G ->
		/* R3. */
		assert(in_upper[name] == FILE_G)
	:: else ->
		/* R4, R7: the object's one copy, or the lower object that is there. */
		assert(in_upper[name] == upper[at[name]]);
		assert(in_upper[name] != NOTHING || is_in_lower);
		if
		:: is_copy(in_upper[name]) -> assert(is_whole(in_upper[name]))
		:: else
		fi
	fi
}

init {
	byte i;

	d_step {
		at[NAME_F] = F;
#ifndef PARENT
		at[NAME_E] = E;
#endif
		at[NAME_D] = D;
		at[NAME_G] = G;
		in_upper[NAME_G] = FILE_G;
		upper[G] = FILE_G;
#ifdef MANY_NAMES
		nlink = 2;
#else
		nlink = 1;
#endif
#ifndef ANCESTORS
		upper[D] = DIRECTORY_D;
		in_upper[NAME_D] = DIRECTORY_D
#endif
	};
	atomic {
		run copier(0, FIRST_WANTS, false);
#if COPIERS > 1
		run copier(1, F, SECOND_LOCKS);
#endif
#if COPIERS > 2
		run copier(2, F, false);
#endif
#ifdef UNLINKER
		run unlinker();
#endif
#ifdef PARENT
		run remover();
#endif
#ifdef OVER
		run over();
#endif
#ifdef AWAY
		run away();
#endif
#ifdef LINKER
		run linker();
#endif
#ifdef READER
		run reader();
#endif
#ifdef FORGETTER
		run forgetter();
#endif
#ifdef STRANGER
		run stranger();
#endif
#ifdef FREEZER
		run freezer();
#endif
#ifdef KILLER
		run killer();
#endif
	};
end_others_at_work:
#ifdef PROGRESS
	_nr_pr == 2;	/* the claim that watches progress is one */
#else
	_nr_pr == 1;
#endif
	d_step {
		if
		:: dead ->
			/* R12: D and what was in it have gone. */
			assert(in_upper[NAME_D] == WHITEOUT);
			assert(in_upper[NAME_F] == NOTHING)
		:: strange ->
			/* R1, R3: nothing has been put over it. */
			assert(in_upper[NAME_F] == FILE_OF_OTHERS)
		:: else ->
			check_name(NAME_F, true)
		fi;
		check_name(NAME_H, false);
		check_name(NAME_G, false);
		check_name(NAME_K, false);
		if
		:: at[NAME_E] == E -> check_name(NAME_E, true)
		:: else
		fi;
		if
		:: at[NAME_D] == D ->
			/* R8. */
			assert(in_upper[NAME_D] == upper[D])
		:: else
		fi;
		/* R7: the link count that stat() shows. */
		if
		:: is_copy(upper[F]) && copy[upper[F]].links != 0 ->
			assert(nlink == copy[upper[F]].links)
		:: else
		fi;
		/* R12: no stray copy, and nothing in work/; R7: links are right. */
		i = 1;
		do
		:: i < COPIES ->
			assert(!copy[i].temp);
			assert(copy[i].links == (in_upper[NAME_F] == i -> 1 : 0) +
			       (in_upper[NAME_H] == i -> 1 : 0) + (in_upper[NAME_K] == i -> 1 : 0) +
			       (in_upper[NAME_E] == i -> 1 : 0) + (in_upper[NAME_D] == i -> 1 : 0));
			i++
		:: else -> break
		od;
		/* R12: everything has been given back. */
		assert(table[F] == 0 && table[E] == 0 && table[D] == 0);
		assert(!copying[F] && !copying[E] && !copying[D]);
		assert(!overlay_dir_locked && !inode_locked && writers == 0);
		assert(locked_by[DIR_ROOT] == 0 && locked_by[DIR_D] == 0)
	}
}
