/* journal_v1.h - a journal as dynod 0.1.0 wrote it (version 1), byte for byte, and what it held, as
 * entries with sorted keys. */
#ifndef TESTS_JOURNAL_V1_H
#define TESTS_JOURNAL_V1_H

static const char journal_v1[] =
    "26981caa 19 {\"dynod-journal\":1}\n"
    "653c8eda 280 {\"op\":\"release\",\"app\":\"shop\",\"url\":\"https://slugs/shop.tgz\",\"diges"
    "t\":\"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"env\":{\"A"
    "\":\"b c\",\"EMPTY\":\"\"},\"size\":\"standard-2x\",\"formation\":{\"web\":3,\"worker\":2},"
    "\"created\":1795305600000000,\"version\":1,\"generation\":1}\n"
    "4b84cbd4 266 {\"op\":\"resolve\",\"app\":\"shop\",\"version\":1,\"digest\":\"sha256:aaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"types\":[{\"name\":\"web\",\"co"
    "mmand\":\"bin/web $PORT\"},{\"name\":\"clock\",\"command\":\"bin/clock\",\"from_release_file"
    "\":true}],\"unknown_types\":[\"worker\"]}\n"
    "a03dd12e 51 {\"op\":\"scale\",\"app\":\"shop\",\"formation\":{\"clock\":1}}\n"
    "b6830182 59 {\"op\":\"restart\",\"app\":\"shop\",\"dyno\":\"web.2\",\"generation\":2}\n"
    "cc8657d3 41 {\"op\":\"stop\",\"app\":\"shop\",\"dyno\":\"web.3\"}\n"
    "5d05c502 113 {\"op\":\"run\",\"app\":\"shop\",\"num\":4123,\"argv\":[\"bash\",\"-c\",\"exit "
    "3\"],\"env\":{\"X\":\"y\"},\"attached\":true,\"generation\":3}\n"
    "ab8fdd98 94 {\"op\":\"run\",\"app\":\"shop\",\"num\":4124,\"command\":\"sleep 1\",\"size\":"
    "\"performance-m\",\"generation\":4}\n"
    "e7ed37eb 36 {\"op\":\"ran\",\"app\":\"shop\",\"num\":4123}\n"
    "93ef94ed 74 {\"op\":\"release\",\"app\":\"gone\",\"url\":\"file:///x\",\"version\":1,\"gener"
    "ation\":5}\n"
    "493cbe25 28 {\"op\":\"forget\",\"app\":\"gone\"}\n"
    "b503c809 236 {\"op\":\"release\",\"app\":\"local\",\"dir\":\"/srv/app\",\"types\":[{\"name\""
    ":\"web\",\"command\":\"a b\",\"direct\":true},{\"name\":\"job\",\"command\":\"c\"}],\"format"
    "ion\":{\"web\":2,\"job\":1},\"ports\":{\"web\":5000,\"job\":5100},\"restart\":false,\"versio"
    "n\":1,\"generation\":6}\n"
    "420637fa 27 {\"op\":\"stop\",\"app\":\"local\"}\n"
    "44e33459 126 {\"op\":\"release\",\"app\":\"new\",\"url\":\"https://slugs/new.tgz\",\"formati"
    "on\":{\"zeta\":1,\"web\":0,\"alpha\":2},\"version\":1,\"generation\":7}\n"
    "1ddd2583 35 {\"op\":\"generation\",\"generation\":40}\n";

static const char journal_v1_entries[] =
    "[{\"generation\":40,\"op\":\"generation\"},{\"app\":\"local\",\"dir\":\"/srv/app\",\"formati"
    "on\":{\"job\":1,\"web\":2},\"generation\":6,\"op\":\"release\",\"ports\":{\"job\":5100,\"web"
    "\":5000},\"restart\":false,\"version\":1},{\"app\":\"local\",\"op\":\"resolve\",\"types\":[{"
    "\"command\":\"a b\",\"direct\":true,\"name\":\"web\"},{\"command\":\"c\",\"name\":\"job\"}],"
    "\"version\":1},{\"app\":\"local\",\"op\":\"stop\"},{\"app\":\"new\",\"formation\":{\"alpha\""
    ":2,\"web\":0,\"zeta\":1},\"generation\":7,\"op\":\"release\",\"url\":\"https://slugs/new.tgz"
    "\",\"version\":1},{\"app\":\"shop\",\"created\":1795305600000000,\"digest\":\"sha256:aaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"env\":{\"A\":\"b c\",\"EMPTY\""
    ":\"\"},\"formation\":{\"clock\":1,\"web\":3},\"generation\":1,\"op\":\"release\",\"size\":\""
    "standard-2x\",\"url\":\"https://slugs/shop.tgz\",\"version\":1},{\"app\":\"shop\",\"op\":\"r"
    "esolve\",\"types\":[{\"command\":\"bin/web $PORT\",\"name\":\"web\"},{\"command\":\"bin/cloc"
    "k\",\"from_release_file\":true,\"name\":\"clock\"}],\"version\":1},{\"app\":\"shop\",\"dyno"
    "\":\"web.2\",\"generation\":2,\"op\":\"restart\"},{\"app\":\"shop\",\"command\":\"sleep 1\","
    "\"generation\":4,\"num\":4124,\"op\":\"run\",\"size\":\"performance-m\"},{\"app\":\"shop\","
    "\"dyno\":\"web.3\",\"op\":\"stop\"}]";

#endif
