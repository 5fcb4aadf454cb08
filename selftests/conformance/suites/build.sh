# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # UNIT, VARIANT and the rest are of job.sh
#
# Lua's source in the lower layer, compiled with make: all, again with nothing to do,
# after a change, after make clean.  The objects are the same on all kinds.

fill_lower() {
	mkdir "$1/lua" && cp -r /job/lua/. "$1/lua/" || return
	cat >"$1/lua/Makefile" <<-'EOF'
	objects := $(patsubst %.c,build/%.o,$(wildcard *.c))
	CFLAGS := -O1 -DLUA_USE_POSIX -MMD
	lua: build/liblua.a
	<TAB>$(CC) -o $@ build/main.o build/liblua.a -lm
	build/liblua.a: $(objects)
	<TAB>rm -f $@
	<TAB>ar rcsD $@ $(filter-out build/main.o,$(objects))
	build/%.o: %.c
	<TAB>@mkdir -p build
	<TAB>$(CC) $(CFLAGS) -c -o $@.new $<
	<TAB>mv $@.new $@
	clean:
	<TAB>rm -rf build lua
	-include $(wildcard build/*.d)
	EOF
	# the crate has the library only
	cat >"$1/lua/main.c" <<-'EOF'
	#include "lauxlib.h"
	#include "lualib.h"
	int main(int argc, char **argv)
	{
	<TAB>lua_State *L = luaL_newstate();
	<TAB>luaL_openlibs(L);
	<TAB>return luaL_dostring(L, argv[1]) != LUA_OK;
	}
	EOF
	sed -i 's/^<TAB>/\t/' "$1/lua/Makefile" "$1/lua/main.c"
}

objects() { (cd lua && cksum build/*.o lua); }

run() {
	check make make -C lua -j2
	same objects objects
	check runs ./lua/lua 'local t = {} for i = 1, 1e5 do t[i] = i end assert(#t == 1e5)'
	same nothing_to_do make --no-print-directory -C lua
	sleep 1
	echo '/* changed */' >>lua/lapi.c
	check change make -C lua
	same objects.changed objects
	touch lua/lua.h
	check header make -C lua -j2
	same objects.header objects
	check clean make -C lua clean
	same cleaned ls lua
}
