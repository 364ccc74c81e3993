package torch

import "strings"

// stdlib holds the top-level modules of Python's standard library, versions 2
// and 3, and of the package installers. A pickle has no business with them but
// for the few values in globals: most of what they offer acts on the machine.
var stdlib = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(stdlibNames) {
		m[name] = true
	}
	return m
}()

const stdlibNames = `
	__builtin__ __future__ _abc _aix_support _ast _asyncio _bisect _blake2 _bootsubprocess _bz2 _codecs _codecs_cn
	_codecs_hk _codecs_iso2022 _codecs_jp _codecs_kr _codecs_tw _collections _collections_abc _compat_pickle
	_compression _contextvars _crypt _csv _ctypes _curses _curses_panel _datetime _dbm _decimal _elementtree
	_frozen_importlib _frozen_importlib_external _functools _gdbm _hashlib _heapq _imp _io _json _locale _lsprof _lzma
	_markupbase _md5 _msi _multibytecodec _multiprocessing _opcode _operator _osx_support _overlapped _pickle
	_posixshmem _posixsubprocess _py_abc _pydecimal _pyio _queue _random _scproxy _sha1 _sha256 _sha3 _sha512 _signal
	_sitebuiltins _socket _sqlite3 _sre _ssl _stat _statistics _string _strptime _struct _symtable _thread
	_threading_local _tkinter _tokenize _tracemalloc _typing _uuid _warnings _weakref _weakrefset _winapi _zoneinfo abc
	aifc annotationlib antigravity anydbm argparse array ast asynchat asyncio asyncore atexit audioop base64 bdb
	binascii binhex bisect builtins bz2 calendar ce cgi cgitb chunk cmath cmd code codecs codeop collections colorsys
	commands compileall compression concurrent ConfigParser configparser contextlib contextvars copy copy_reg copyreg
	cPickle cProfile crypt cStringIO csv ctypes curses dataclasses datetime dbm decimal difflib dis distutils doctest
	dummy_thread email encodings ensurepip enum errno exceptions faulthandler fcntl filecmp fileinput fnmatch formatter
	fractions ftplib functools gc genericpath getopt getpass gettext glob graphlib grp gzip hashlib heapq hmac html http
	httplib idlelib imaplib imghdr imp importlib inspect io ipaddress itertools java json keyword lib2to3 linecache
	locale logging lzma macpath mailbox mailcap marshal math mimetypes mmap modulefinder msilib msvcrt multiprocessing
	netrc new nis nntplib nt ntpath nturl2path numbers opcode operator optparse os os2 ossaudiodev parser pathlib pdb
	pickle pickletools pip pipes pkg_resources pkgutil platform plistlib popen2 poplib posix posixfile posixpath pprint
	profile pstats pty pwd py_compile pyclbr pydoc pydoc_data pyexpat Queue queue quopri random re readline reprlib
	resource riscos rlcompleter runpy sched secrets select selectors sets setuptools shelve shlex shutil signal site
	smtpd smtplib sndhdr socket SocketServer socketserver spwd sqlite3 sre_compile sre_constants sre_parse ssl stat
	statistics string StringIO stringprep struct subprocess sunau symbol symtable sys sysconfig syslog tabnanny tarfile
	telnetlib tempfile termios textwrap this thread threading time timeit tkinter token tokenize tomllib trace traceback
	tracemalloc tty turtle turtledemo types typing unicodedata unittest urllib urllib2 user UserDict uu uuid venv
	warnings wave weakref webbrowser whichdb winreg winsound wsgiref xdrlib xml xmlrpc xmlrpclib zipapp zipfile
	zipimport zlib zoneinfo
`
